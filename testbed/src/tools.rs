//! kubectl and helm on a control plane.

use std::ffi::OsStr;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt as _;

use crate::ControlPlane;
use crate::binary::Programs;
use crate::error::{Error, Result};

impl ControlPlane {
    /// Runs the real kubectl on this control plane. Returns its output also if it
    /// failed; see [`Self::kubectl_ok`].
    pub async fn kubectl<I, S>(&self, arguments: I) -> Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.tool("kubectl", arguments, "").await.map(|(_, output)| output)
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    pub async fn kubectl_ok<I, S>(&self, arguments: I) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let (said, output) = self.tool("kubectl", arguments, "").await?;
        succeeded("kubectl", said, &output)
    }

    /// Applies these manifests (YAML, also several documents) with kubectl.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        let (said, output) = self.tool("kubectl", ["apply", "-f", "-"], manifests).await?;
        succeeded("kubectl", said, &output)
    }

    /// Applies manifests of any size, and takes over what others have set.
    pub(crate) async fn apply_large(&self, manifests: &str) -> Result<String> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        let (said, output) = self.tool("kubectl", arguments, manifests).await?;
        succeeded("kubectl", said, &output)
    }

    /// Runs the real helm on this control plane, with its own caches.
    /// See [`Self::kubectl`].
    pub async fn helm<I, S>(&self, arguments: I) -> Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.tool("helm", arguments, "").await.map(|(_, output)| output)
    }

    /// Runs helm, which must succeed, and returns what it printed.
    pub async fn helm_ok<I, S>(&self, arguments: I) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let (said, output) = self.tool("helm", arguments, "").await?;
        succeeded("helm", said, &output)
    }

    async fn tool<I, S>(
        &self,
        program: &'static str,
        arguments: I,
        input: &str,
    ) -> Result<(String, Output)>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.programs.tool(program)?;
        command.args(arguments).envs(self.environment());
        let said = command
            .get_args()
            .skip(usize::from(matches!(self.programs, Programs::Binary(_))))
            .map(OsStr::to_string_lossy)
            .collect::<Vec<_>>()
            .join(" ");
        let failed = || Error::io("running", program);
        let mut child = tokio::process::Command::from(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed())?;
        let stdin = child.stdin.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // A command that needs no input may have ended already.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        Ok((said, output.map_err(failed())?))
    }
}

fn succeeded(program: &'static str, arguments: String, output: &Output) -> Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        let (status, stderr) = (output.status, text(&output.stderr));
        Err(Error::Command { program, arguments, status, stderr })
    }
}
