//! Programs that are built from Go modules.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::env::env_path;
use crate::error::{Error, Result};

/// A program that is built from a Go module once, and then kept in the user's
/// cache.
#[derive(Clone, Debug)]
pub struct GoProgram {
    pub name: &'static str,
    /// The name that progress lines show.
    pub title: &'static str,
    /// The module's directory, with go.mod and go.sum.
    pub sources: PathBuf,
    /// The package to build: `.`, or another that go.mod requires.
    pub package: &'static str,
    /// Flags for the linker.
    pub linker_flags: String,
    /// The time that it takes on two cores, for progress lines; `None` for a
    /// quick build, which prints none.
    pub takes: Option<&'static str>,
    /// The alternative where Go is missing, as the end of a sentence.
    pub instead: &'static str,
}

impl GoProgram {
    /// Builds the program, unless it was built from the same sources before, and
    /// returns its path, in `$XDG_CACHE_HOME/daylight/testbed` or
    /// `~/.cache/daylight/testbed`. Prints progress on standard error.
    ///
    /// Several processes may call this at the same time: one builds, the others
    /// wait for it. A build that fails or is interrupted leaves nothing behind.
    pub fn build(&self) -> Result<PathBuf> {
        let files = source_files(&self.sources)?;
        let directory = cache_directory().join(digest(&files)?);
        let binary = directory.join(self.name);
        if binary.is_file() {
            return Ok(binary);
        }
        fs::create_dir_all(&directory).map_err(Error::io("creating a directory", &directory))?;

        let path = directory.join("lock");
        let lock = File::create(&path).map_err(Error::io("creating", &path))?;
        if lock.try_lock().is_err() {
            note(&format!("another process is building {}; waiting for it", self.title));
            lock.lock().map_err(Error::io("locking", &path))?;
        }
        if !binary.is_file() {
            let partial = directory.join(format!("{}.partial", self.name));
            let built = self.compile(&partial).and_then(|()| {
                fs::rename(&partial, &binary).map_err(Error::io("renaming", &partial))
            });
            if built.is_err() {
                let _ = fs::remove_file(&partial);
            }
            built?;
        }
        Ok(binary)
    }

    /// Returns the directory of a module that go.mod requires, in Go's cache, with all its files.
    pub(crate) fn module(&self, module: &str) -> Result<PathBuf> {
        self.check_go()?;
        let arguments = ["mod", "download", "-json", module].map(OsString::from);
        let answer = self.run(&arguments, |_| {})?;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        answer["Dir"].as_str().map(PathBuf::from).ok_or_else(|| Error::NoModule {
            module: module.to_owned(),
            directory: self.sources.clone(),
        })
    }

    fn compile(&self, output: &Path) -> Result<()> {
        self.check_go()?;
        let mut progress = self.takes.map(|takes| Progress::new(self.title, takes));
        let mut total = 0;
        if let Some(progress) = &mut progress {
            let list = ["list".into(), "-deps".into(), self.package.into()];
            let listed = self.run(&list, |line| {
                if let Some(module) = line.strip_prefix("go: downloading ") {
                    progress.print(&format!("fetching {module}"));
                }
            })?;
            total = listed.lines().count();
        }

        let mut compiled = 0;
        let arguments = [
            "build".into(),
            "-v".into(),
            "-trimpath".into(),
            "-buildvcs=false".into(),
            "-ldflags".into(),
            OsString::from(&self.linker_flags),
            "-o".into(),
            output.as_os_str().to_owned(),
            self.package.into(),
        ];
        self.run(&arguments, |line| {
            if let Some(progress) = &mut progress
                && (line.contains('/') || !line.contains(' '))
            {
                compiled += 1;
                progress.compiled(compiled, total);
            }
        })?;
        if let Some(progress) = progress {
            progress.done();
        }
        Ok(())
    }

    /// Checks that the installed Go is the version in go.mod, or newer.
    fn check_go(&self) -> Result<()> {
        let Self { title, instead, .. } = *self;
        let module = module(&self.sources)?;
        let needed = directive(&module, "go ").unwrap_or("1.26").to_owned();
        let found = match Command::new("go").arg("env").arg("GOVERSION").output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Err(_) => return Err(Error::GoMissing { title, needed, instead }),
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
            Err(Error::GoTooOld { title, found, needed, instead })
        }
    }

    /// Runs `go`, passes each line of its standard error to `each`, and returns its
    /// standard output.
    fn run(&self, arguments: &[OsString], mut each: impl FnMut(&str)) -> Result<String> {
        let mut child = Command::new("go")
            .args(arguments)
            .current_dir(&self.sources)
            // The user's settings could choose another toolchain, or other sources
            // than go.sum has.
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
            let (title, directory) = (self.title, self.sources.clone());
            return Err(Error::Build { title, directory, status, log });
        }
        let text = output.and_then(|thread| thread.join().ok()).and_then(Result::ok);
        Ok(text.unwrap_or_default())
    }
}

fn cache_directory() -> PathBuf {
    let cache = env_path("XDG_CACHE_HOME")
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

/// The text of go.mod.
pub(crate) fn module(sources: &Path) -> Result<String> {
    let path = sources.join("go.mod");
    fs::read_to_string(&path).map_err(Error::io("reading", &path))
}

/// Returns the text after `word` on the line of go.mod that begins with it.
pub(crate) fn directive<'module>(module: &'module str, word: &str) -> Option<&'module str> {
    module.lines().find_map(|line| line.trim().strip_prefix(word)).map(str::trim)
}

/// The share of the elapsed time is the share of compiled packages to the power
/// of this: the later packages are larger. Measured.
const LATER_IS_LARGER: f64 = 1.6;

/// Prints the progress of a build on standard error: on one line of a terminal, or
/// a line every ten seconds elsewhere.
struct Progress {
    begun: Instant,
    printed: Option<Instant>,
    terminal: bool,
    title: &'static str,
}

impl Progress {
    fn new(title: &'static str, takes: &str) -> Self {
        note(&format!(
            "building {title} from source: {takes} on two cores, once; later runs use the cache"
        ));
        let terminal = std::io::stderr().is_terminal();
        Self { begun: Instant::now(), printed: None, terminal, title }
    }

    fn compiled(&mut self, compiled: usize, total: usize) {
        let elapsed = self.begun.elapsed();
        let done = compiled as f64 / total.max(1) as f64;
        let left = if compiled >= total {
            ", linking".to_owned()
        } else if compiled > 200 {
            let total_time = elapsed.as_secs_f64() / done.powf(LATER_IS_LARGER);
            let left = Duration::from_secs_f64(total_time).saturating_sub(elapsed);
            format!(", about {} left", minutes(left))
        } else {
            String::new()
        };
        self.print(&format!("{compiled} of {total} packages, {}{left}", minutes(elapsed)));
    }

    fn print(&mut self, text: &str) {
        let interval = Duration::from_millis(if self.terminal { 200 } else { 10_000 });
        if self.printed.is_some_and(|printed| printed.elapsed() < interval) {
            return;
        }
        self.printed = Some(Instant::now());
        if self.terminal {
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "\r\x1b[Ktestbed: {text}").and_then(|()| stderr.flush());
        } else {
            note(text);
        }
    }

    fn done(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        note(&format!("built {} in {}", self.title, minutes(self.begun.elapsed())));
    }
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}

/// Prints a line on standard error, past the capture of the test harness, which
/// would hold it back until a test has failed.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "testbed: {text}");
}
