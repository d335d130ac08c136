//! Finding the programs, or building them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::Component;
use crate::error::{Error, Result};

const BINARY: &str = "DAYLIGHT_TESTBED";
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// Where etcd, the API server, kubectl and the others are.
#[derive(Clone, Debug)]
pub enum Programs {
    /// All in one binary, ours.
    Binary(PathBuf),
    /// etcd, kube-apiserver and kubectl, each a binary in this directory.
    Assets(PathBuf),
}

impl Programs {
    /// The programs for these components: what `DAYLIGHT_TESTBED` names; else,
    /// if they are no more than etcd and the API server, those in
    /// `KUBEBUILDER_ASSETS` where that is set; else the binary that [`build`]
    /// makes or has made.
    pub fn find(components: impl IntoIterator<Item = Component>) -> Result<Self> {
        if let Some(path) = set(BINARY) {
            return if path.is_file() {
                Ok(Self::Binary(path))
            } else {
                Err(Error::NoBinary { path })
            };
        }
        if let Some(directory) = set(ASSETS)
            && components.into_iter().all(|component| component <= Component::ApiServer)
        {
            return Ok(Self::Assets(directory));
        }
        build().map(Self::Binary)
    }

    /// A command that runs a server until its standard input closes.
    pub(crate) fn server(&self, program: &'static str) -> Result<Command> {
        match self {
            Self::Binary(path) => {
                let mut command = Command::new(path);
                command.arg(program);
                Ok(command)
            }
            Self::Assets(_) => {
                // These do not look at their standard input: a shell does.
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(UNTIL_STDIN_CLOSES).arg("sh").arg(self.asset(program)?);
                Ok(command)
            }
        }
    }

    /// A command that runs a tool: kubectl or helm.
    pub(crate) fn tool(&self, program: &'static str) -> Result<Command> {
        match self {
            Self::Binary(path) => {
                let mut command = Command::new(path);
                command.arg(program);
                Ok(command)
            }
            Self::Assets(_) => Ok(Command::new(self.asset(program)?)),
        }
    }

    fn asset(&self, program: &'static str) -> Result<PathBuf> {
        let (Self::Binary(directory) | Self::Assets(directory)) = self;
        let path = directory.join(program);
        if path.is_file() {
            Ok(path)
        } else {
            Err(Error::NoProgram { program, directory: directory.clone() })
        }
    }
}

/// Runs its arguments and waits for them; ends them when standard input does.
pub(crate) const UNTIL_STDIN_CLOSES: &str = r#"
exec 3<&0
"$@" <&3 3<&- &
server=$!
{ cat <&3 >/dev/null; kill -TERM $server; sleep 3; kill -KILL $server; } 2>/dev/null &
exec 3<&- </dev/null
wait $server
"#;

fn set(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Builds the binary, if it has not been built from the same sources before,
/// and returns where it is: in `$XDG_CACHE_HOME/daylight/testbed`, or
/// `~/.cache/daylight/testbed`. The first time this takes some 8 minutes on
/// two cores, and it says on standard error how far it is.
///
/// Several processes may call this at once: one builds, the others wait for
/// it. A build that fails or is interrupted leaves nothing behind.
pub fn build() -> Result<PathBuf> {
    cached("k8s", compile)
}

/// Builds the program that a real node's pods run, in the same way: a second's
/// work, and nothing to fetch.
pub(crate) fn build_workload() -> Result<PathBuf> {
    cached("workload", |sources, output| {
        check_go(&module(sources)?)?;
        let flags = ["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"];
        let mut arguments: Vec<OsString> = flags.map(Into::into).into();
        arguments.extend([output.as_os_str().to_owned(), ".".into()]);
        run(sources, &arguments, |_| {}).map(drop)
    })
}

/// The program that `compile` makes from the Go module of this name, by the
/// digest of its sources.
fn cached(name: &str, compile: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let files = source_files(&sources)?;
    let directory = cache_directory().join(digest(&files)?);
    let binary = directory.join(name);
    if binary.is_file() {
        return Ok(binary);
    }
    fs::create_dir_all(&directory).map_err(Error::io("making a directory", &directory))?;

    let path = directory.join("lock");
    let lock = File::create(&path).map_err(Error::io("creating", &path))?;
    if lock.try_lock().is_err() {
        note(&format!("another process is building the testbed's {name}; waiting for it"));
        lock.lock().map_err(Error::io("locking", &path))?;
    }
    if !binary.is_file() {
        let partial = directory.join(format!("{name}.partial"));
        let built = compile(&sources, &partial)
            .and_then(|()| fs::rename(&partial, &binary).map_err(Error::io("renaming", &partial)));
        if built.is_err() {
            let _ = fs::remove_file(&partial);
        }
        built?;
    }
    Ok(binary)
}

fn cache_directory() -> PathBuf {
    let cache = set("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| std::env::home_dir().unwrap_or_else(std::env::temp_dir).join(".cache"));
    cache.join("daylight").join("testbed")
}

fn source_files(sources: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(sources).map_err(Error::io("reading", sources))? {
        let path = entry.map_err(Error::io("reading", sources))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == "go.mod"
            || name == "go.sum"
            || (name.ends_with(".go") && !name.ends_with("_test.go"))
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn digest(files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    for path in files {
        let contents = fs::read(path).map_err(Error::io("reading", path))?;
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update((contents.len() as u64).to_be_bytes());
        hash.update(&contents);
    }
    hash.update(std::env::consts::ARCH);
    let start = hash.finalize().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    Ok(format!("{start:016x}"))
}

fn compile(sources: &Path, output: &Path) -> Result<()> {
    let module = module(sources)?;
    check_go(&module)?;

    let mut progress = Progress::new();
    let listed = run(sources, &["list".into(), "-deps".into(), ".".into()], |line| {
        if let Some(module) = line.strip_prefix("go: downloading ") {
            progress.say(&format!("fetching {module}"));
        }
    })?;
    let total = listed.lines().count();

    let mut compiled = 0;
    let arguments = [
        "build".into(),
        "-v".into(),
        "-trimpath".into(),
        "-buildvcs=false".into(),
        "-ldflags".into(),
        linker_flags(&module).into(),
        "-o".into(),
        output.as_os_str().to_owned(),
        ".".into(),
    ];
    run(sources, &arguments, |line| {
        if line.contains('/') || !line.contains(' ') {
            compiled += 1;
            progress.compiled(compiled, total);
        }
    })?;
    progress.done();
    Ok(())
}

/// The text of go.mod.
fn module(sources: &Path) -> Result<String> {
    let path = sources.join("go.mod");
    fs::read_to_string(&path).map_err(Error::io("reading", &path))
}

/// Go's required version, from go.mod, and whether the one here will do.
fn check_go(module: &str) -> Result<()> {
    let needed = directive(module, "go ").unwrap_or("1.26").to_owned();
    let found = match Command::new("go").arg("env").arg("GOVERSION").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(_) => return Err(Error::GoMissing { needed }),
    };
    let numbers = |version: &str| -> Vec<u32> {
        version
            .trim_start_matches("go")
            .split('.')
            .map(|part| part.chars().take_while(char::is_ascii_digit).collect::<String>())
            .map_while(|part| part.parse().ok())
            .collect()
    };
    if numbers(&found) >= numbers(&needed) {
        Ok(())
    } else {
        Err(Error::GoTooOld { found, needed })
    }
}

/// What follows `word` on the line of go.mod that begins with it.
fn directive<'module>(module: &'module str, word: &str) -> Option<&'module str> {
    module.lines().find_map(|line| line.trim().strip_prefix(word)).map(str::trim)
}

/// No symbol table, and the versions that the programs call themselves, which
/// their makers' builds set in the same way.
fn linker_flags(module: &str) -> String {
    let mut flags = vec!["-s -w".to_owned()];
    let kubernetes = directive(module, "k8s.io/kubernetes ").unwrap_or_default();
    let mut numbers = kubernetes.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", kubernetes),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitCommit", ""),
            ("gitTreeState", "clean"),
        ] {
            flags.push(format!("-X {package}.{name}={value}"));
        }
    }
    if let Some(helm) = directive(module, "helm.sh/helm/v4 ") {
        flags.push(format!("-X helm.sh/helm/v4/internal/version.version={helm}"));
    }
    flags.join(" ")
}

/// Runs `go`, gives each line of its standard error to `each`, and returns its
/// standard output.
fn run(sources: &Path, arguments: &[OsString], mut each: impl FnMut(&str)) -> Result<String> {
    let mut child = Command::new("go")
        .args(arguments)
        .current_dir(sources)
        // A setting of the user's could choose another toolchain, or other
        // sources than go.sum's.
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io("starting", "go"))?;
    let output = child.stdout.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut pipe, &mut text).map(|_| text)
        })
    });
    let mut last = VecDeque::new();
    for line in child.stderr.take().into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
        let line = line.map_err(Error::io("reading from", "go"))?;
        each(&line);
        if last.len() == 20 {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = child.wait().map_err(Error::io("waiting for", "go"))?;
    if !status.success() {
        let log = Vec::from(last).join("\n");
        return Err(Error::Build { directory: sources.to_owned(), status, log });
    }
    let text = output.and_then(|thread| thread.join().ok()).and_then(Result::ok);
    Ok(text.unwrap_or_default())
}

/// The share of the time that is over, as a power of the share of the packages
/// that are compiled. Measured.
const LATER_IS_LARGER: f64 = 1.6;

/// Says on standard error how far the build is: on one line of a terminal, or
/// a line every ten seconds elsewhere.
struct Progress {
    begun: Instant,
    said: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        note(
            "building Kubernetes for the testbed: once, about 8 minutes on two cores \
             (later starts find it in the cache)",
        );
        Self { begun: Instant::now(), said: None, terminal: std::io::stderr().is_terminal() }
    }

    fn compiled(&mut self, compiled: usize, total: usize) {
        let elapsed = self.begun.elapsed();
        let done = compiled as f64 / total.max(1) as f64;
        let left = if compiled >= total {
            ", linking".to_owned()
        } else if compiled > 200 {
            // The later packages are the larger ones.
            let in_all = elapsed.as_secs_f64() / done.powf(LATER_IS_LARGER);
            let left = Duration::from_secs_f64(in_all).saturating_sub(elapsed);
            format!(", about {} left", minutes(left))
        } else {
            String::new()
        };
        self.say(&format!("{compiled} of {total} packages, {}{left}", minutes(elapsed)));
    }

    fn say(&mut self, what: &str) {
        let interval = Duration::from_millis(if self.terminal { 200 } else { 10_000 });
        if self.said.is_some_and(|said| said.elapsed() < interval) {
            return;
        }
        self.said = Some(Instant::now());
        if self.terminal {
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "\r\x1b[Ktestbed: {what}").and_then(|()| stderr.flush());
        } else {
            note(what);
        }
    }

    fn done(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        note(&format!("built Kubernetes in {}", minutes(self.begun.elapsed())));
    }
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}

/// A line for whoever watches. Written past the test harness's capture, which
/// would hold it back until a test has failed.
fn note(what: &str) {
    let _ = writeln!(std::io::stderr(), "testbed: {what}");
}
