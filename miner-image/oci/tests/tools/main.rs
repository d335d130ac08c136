//! The builder's image, in the hands of those who read images: skopeo, umoci, runc, containerd.
//! Where one is missing, its tests show themselves as ignored.
//!
//! Those of the operator's image take minutes to build it, and run when asked for by `--ignored`.

mod environment;
mod names;
mod operator;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};
use tempfile::TempDir;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Bytes that the program may have, without and with RandomX.
const LIMITS: (u64, u64) = (8_000_000, 12_000_000);
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Some(root) = std::env::var_os(names::INSIDE) {
        return names::inside(Path::new(&root));
    }
    let arguments = Arguments::from_args();
    let world = Arc::new(World::default());
    let test = |name: &str, needs: &'static [&'static str], test: fn(&World) -> Outcome| {
        let world = world.clone();
        Trial::ignorable_test(name, move || match missing(needs) {
            Some(why) => Ok(Completion::ignored_with(why)),
            None => match test(&world) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(Failed::from(error.to_string())),
            },
        })
    };
    let minutes = |name: &str, needs: &'static [&'static str], test_of: fn(&World) -> Outcome| {
        test(name, needs, test_of).with_ignored_flag(true)
    };
    let trials = vec![
        test("one_program_makes_one_image", &["cc"], one_program_makes_one_image),
        test(
            "no_variable_of_the_machine_reaches_a_compiler",
            &["cc", "gcc", "g++", "cmake"],
            environment::no_variable_reaches_a_compiler,
        ),
        test(
            "a_dynamic_image_knows_its_libraries",
            &["cc", "gcc", "cmake"],
            a_dynamic_image_knows_its_libraries,
        ),
        test("the_bill_lists_what_cargo_lists", &["cc"], the_bill_lists_what_cargo_lists),
        test("tls_finds_the_roots", &["cc"], tls_finds_the_roots),
        test("what_cannot_run_alone_is_refused", &["cc"], what_cannot_run_alone_is_refused),
        test("the_containerfiles_say_the_same", &["cc"], the_containerfiles_say_the_same),
        test("what_is_built_is_printed", &["cc"], what_is_built_is_printed),
        test("the_program_stays_small", &["cc"], the_program_stays_small),
        test("an_image_has_these_files_and_no_others", &["cc"], an_image_has_these_files),
        test("the_bill_names_what_built_it", &["cc", "gcc", "cmake"], the_bill_names_what_built_it),
        test("skopeo_reads_both_forms", &["cc", "skopeo"], skopeo_reads_both_forms),
        test(
            "containerd_calls_it_by_its_name",
            &["cc", "root", "containerd", "ctr"],
            containerd_calls_it,
        ),
        test(
            "it_resolves_names_as_in_a_pod",
            &["cc", "root", "unshare", "chroot", "ip"],
            names::it_resolves_names_as_in_a_pod,
        ),
        test("runc_runs_it_without_rights", &["cc", "root", "umoci", "runc"], runc_runs_it),
        minutes("operator::its_image_stays_small", &["cc"], operator::its_image_stays_small),
        minutes(
            "operator::its_image_has_these_files",
            &["cc"],
            operator::its_image_has_these_files,
        ),
        minutes(
            "operator::skopeo_reads_both_forms",
            &["cc", "skopeo"],
            operator::skopeo_reads_both_forms,
        ),
        minutes(
            "operator::load_hands_it_to_containerd",
            &["cc", "root", "containerd", "ctr"],
            operator::load_hands_it_to_containerd,
        ),
        minutes(
            "operator::runc_runs_it_without_rights",
            &["cc", "root", "umoci", "runc"],
            operator::runc_runs_it,
        ),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(world);
    conclusion.exit_code()
}

/// What of `needs` is not here.
fn missing(needs: &[&str]) -> Option<String> {
    needs.iter().find_map(|need| match *need {
        "root" => (!rustix::process::geteuid().is_root()).then(|| "this needs root".to_owned()),
        program => {
            let paths = std::env::var_os("PATH").unwrap_or_default();
            let found = std::env::split_paths(&paths).any(|path| path.join(program).is_file());
            (!found).then(|| format!("there is no {program} on the PATH"))
        }
    })
}

/// The images, each of which is built for the first test that needs it.
#[derive(Default)]
struct World {
    miner: OnceLock<Result<Built, String>>,
    operator: OnceLock<Result<Built, String>>,
}

struct Built {
    scratch: TempDir,
    digest: String,
    /// Bytes of the program, and of all that a node pulls.
    program: u64,
    pulled: u64,
}

impl World {
    fn miner(&self) -> Outcome<&Built> {
        let built = || build(builder()).map_err(|error| error.to_string());
        self.miner.get_or_init(built).as_ref().map_err(|error| error.clone().into())
    }

    fn operator(&self) -> Outcome<&Built> {
        let built = || build(operator_builder()).map_err(|error| error.to_string());
        self.operator.get_or_init(built).as_ref().map_err(|error| error.clone().into())
    }
}

impl Built {
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

fn build(mut command: Command) -> Outcome<Built> {
    let scratch = tempfile::tempdir()?;
    command.envs(environment::poisoned());
    for output in ["layout", "image.tar"] {
        command.arg("--output").arg(scratch.path().join(output));
    }
    let said = run(command.arg("--sbom").arg(scratch.path().join("sbom.json")))?;
    let word = |line: &str| {
        let found = said.lines().find_map(|each| each.strip_prefix(line));
        found.and_then(|rest| rest.split_whitespace().next()).ok_or(format!("no {line} in {said}"))
    };
    let digest = word("image ")?.to_owned();
    let (program, pulled) = (word("program ")?.parse()?, word("pulled ")?.parse()?);
    Ok(Built { scratch, digest, program, pulled })
}

// ---- without the program --------------------------------------------------

fn one_program_makes_one_image(_: &World) -> Outcome {
    let scratch = tempfile::tempdir()?;
    let mut written = Vec::new();
    for (name, date) in [("one", 1), ("another-folder", 1_000_000_000)] {
        let folder = scratch.path().join(name);
        fs::create_dir(&folder)?;
        let program = program(&folder)?;
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(date);
        File::options().write(true).open(&program)?.set_modified(date)?;
        let said = run(builder()
            .env("SOURCE_DATE_EPOCH", "1000000000")
            .current_dir(workspace().join(if name == "one" { "." } else { "docs" }))
            .arg("--binary")
            .arg(program)
            .arg("--sbom")
            .arg(folder.join("sbom.json"))
            .arg("--output")
            .arg(folder.join("layout"))
            .arg("--output")
            .arg(folder.join("image.tar")))?;
        // What follows names files.
        let said: Vec<String> = said
            .lines()
            .take_while(|line| !line.starts_with("written"))
            .map(str::to_owned)
            .collect();
        written.push((said, files(&folder)?));
        // Past the second in which the first was written.
        std::thread::sleep(Duration::from_millis(1100));
    }
    let [(said, one), (again, another)] = written.as_slice() else { unreachable!() };
    assert_eq!(said, again);
    let names =
        |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(one), names(another));
    assert!(one == another, "the same files, of different bytes");
    Ok(())
}

fn a_dynamic_image_knows_its_libraries(_: &World) -> Outcome {
    let scratch = tempfile::tempdir()?;
    let bill = scratch.path().join("sbom.json");
    let output = builder()
        .args(["--features", "gpu", "--binary", env!("CARGO_BIN_EXE_miner-image"), "--sbom"])
        .arg(&bill)
        .arg("--output")
        .arg(scratch.path().join("image.tar"))
        .output()?;
    let says = String::from_utf8_lossy(&output.stderr);
    if says.contains("install libvulkan1") {
        return Ok(());
    }
    assert!(output.status.success(), "{says}");
    let bill: Value = serde_json::from_slice(&fs::read(bill)?)?;
    let components = bill["components"].as_array().ok_or("no components")?;
    for library in ["libc.so.6", "libgcc_s.so.1", "libvulkan.so.1"] {
        let is = |component: &&Value| {
            component["name"].as_str().is_some_and(|name| name.ends_with(library))
        };
        let component = components.iter().find(is).ok_or(library)?;
        let version = component["version"].as_str().unwrap_or_default();
        assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{component}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
    Ok(())
}

fn the_bill_lists_what_cargo_lists(_: &World) -> Outcome {
    let scratch = tempfile::tempdir()?;
    let bill = scratch.path().join("sbom.json");
    run(builder()
        .arg("--no-default-features")
        .arg("--binary")
        .arg(program(scratch.path())?)
        .arg("--sbom")
        .arg(&bill)
        .arg("--output")
        .arg(scratch.path().join("image.tar")))?;
    let bill: Value = serde_json::from_slice(&fs::read(bill)?)?;
    let mut components = bill["components"].as_array().ok_or("no components")?.clone();
    components.push(bill["metadata"]["component"].clone());
    let text =
        |component: &Value, key: &str| component[key].as_str().unwrap_or_default().to_owned();
    let mut listed = BTreeSet::new();
    let references: BTreeSet<String> =
        components.iter().map(|component| text(component, "bom-ref")).collect();
    assert_eq!(references.len(), components.len(), "each has a name of its own");
    for component in &components {
        let purl = text(component, "purl");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        assert!(!text(component, "version").is_empty(), "{component}");
        if purl.starts_with("pkg:cargo/") && component["type"] != "data" {
            let own = text(component, "name").starts_with("daylight-");
            assert!(own || component["hashes"][0]["content"].is_string(), "{component}");
            listed.insert(format!("{} v{}", text(component, "name"), text(component, "version")));
        }
    }
    for dependency in bill["dependencies"].as_array().ok_or("no dependencies")? {
        let uses = dependency["dependsOn"].as_array().into_iter().flatten();
        for reference in uses.chain([&dependency["ref"]]) {
            assert!(references.contains(reference.as_str().unwrap_or_default()), "{reference}");
        }
    }

    let cargo = run(Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args(["tree", "--locked", "--package", "daylight-miner", "--no-default-features"])
        .args(["--target", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .args(["--edges", "no-dev", "--prefix", "none", "--no-dedupe"]))?;
    let cargo: BTreeSet<String> = cargo
        .lines()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect();
    assert!(cargo.len() > 20, "{cargo:?}");
    assert_eq!(listed, cargo);
    Ok(())
}

fn tls_finds_the_roots(_: &World) -> Outcome {
    let scratch = tempfile::tempdir()?;
    let layout = scratch.path().join("layout");
    run(builder().arg("--binary").arg(program(scratch.path())?).arg("--output").arg(&layout))?;
    let root = scratch.path().join("root");
    unpack(&layout, &root)?;
    // The first of the places that the library tries on Linux.
    let roots = root.join("etc/ssl/certs/ca-certificates.crt");
    let found = rustls_native_certs::load_certs_from_paths(Some(&roots), None);
    assert!(found.errors.is_empty(), "{:?}", found.errors);
    assert_eq!(found.certs.len(), webpki_root_certs::TLS_SERVER_ROOT_CERTS.len());
    assert!(found.certs.len() > 100);
    assert_eq!(fs::read_to_string(root.join("etc/group"))?, "daylight:x:65532:\n");
    Ok(())
}

fn what_cannot_run_alone_is_refused(_: &World) -> Outcome {
    let scratch = tempfile::tempdir()?;
    let output = builder()
        .arg("--binary")
        .arg("/proc/self/exe")
        .arg("--output")
        .arg(scratch.path().join("image.tar"))
        .output()?;
    let says = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        says,
        "miner-image: the program cannot run in an image that holds nothing else: it is linked dynamically\n"
    );
    assert!(!output.status.success());
    Ok(())
}

fn the_containerfiles_say_the_same(_: &World) -> Outcome {
    for (mut builder, folder) in [(builder(), "miner-image"), (operator_builder(), "operator")] {
        let scratch = tempfile::tempdir()?;
        let layout = scratch.path().join("layout");
        run(builder.arg("--binary").arg(program(scratch.path())?).arg("--output").arg(&layout))?;
        let config = &config(&layout)?["config"];
        let text = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
        let mut ports: Vec<String> =
            config["ExposedPorts"].as_object().ok_or("no ports")?.keys().cloned().collect();
        ports.sort();
        let file = fs::read_to_string(workspace().join(folder).join("Containerfile"))?;
        let (first, last) = file.split_once("FROM scratch\n").ok_or("no last stage")?;
        let toolchain = fs::read_to_string(workspace().join("rust-toolchain.toml"))?;
        let toolchain: toml::Table = toml::from_str(&toolchain)?;
        let rust = toolchain["toolchain"]["channel"].as_str().unwrap_or_default();
        assert!(first.contains(&format!("library/rust:{rust}-")), "{first}");
        // The base image has compilers, but no cmake, by which the miner's RandomX is built.
        let cmake = first.contains("install -y --no-install-recommends cmake=");
        assert_eq!(cmake, folder == "miner-image", "{first}");
        let said: Vec<&str> = last.lines().skip(1).collect();
        assert_eq!(
            said,
            [
                format!("USER {}", text("User")),
                format!("WORKDIR {}", text("WorkingDir")),
                format!("EXPOSE {}", ports.join(" ")),
                format!("STOPSIGNAL {}", text("StopSignal")),
                format!("ENTRYPOINT {}", config["Entrypoint"].to_string().replace(',', ", ")),
            ]
        );
    }
    Ok(())
}

/// The commands that follow a build, with what they name.
fn what_is_built_is_printed(_: &World) -> Outcome {
    let scratch = tempfile::tempdir()?;
    let (layout, archive) = (scratch.path().join("layout"), scratch.path().join("image.tar"));
    let said = run(operator_builder()
        .arg("--binary")
        .arg(program(scratch.path())?)
        .args(["--name", "registry.example.org:5000/daylight:1", "--output"])
        .arg(&archive)
        .arg("--output")
        .arg(&layout))?;
    let (layout, archive) = (layout.display(), archive.display());
    for line in [
        format!("ctr -n k8s.io images import {archive}"),
        format!("kind load image-archive {archive}"),
        format!("k3d image import {archive}"),
        format!("skopeo copy oci:{layout}:1 docker://registry.example.org:5000/daylight:1"),
    ] {
        assert!(said.lines().any(|each| each.trim() == line), "no {line} in {said}");
    }
    Ok(())
}

// ---- with the program -----------------------------------------------------

fn the_program_stays_small(world: &World) -> Outcome {
    let built = world.miner()?;
    let bill = fs::read_to_string(built.path("sbom.json"))?;
    let limit = if bill.contains("\"RandomX\"") { LIMITS.1 } else { LIMITS.0 };
    assert!(built.program <= limit, "{} bytes are more than {limit}", built.program);
    Ok(())
}

fn an_image_has_these_files(world: &World) -> Outcome {
    has_these_files(world.miner()?, "daylight-miner")
}

fn has_these_files(built: &Built, program: &str) -> Outcome {
    let scratch = tempfile::tempdir()?;
    unpack(&built.path("layout"), scratch.path())?;
    let found = files(scratch.path())?;
    let found: Vec<_> = found.iter().map(|(path, _)| path.display().to_string()).collect();
    let license = format!("usr/share/doc/{program}/LICENSE");
    let expected =
        [program, "etc/group", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", &license];
    assert_eq!(found, expected);
    Ok(())
}

fn the_bill_names_what_built_it(world: &World) -> Outcome {
    let built = world.miner()?;
    let bill: Value = serde_json::from_slice(&fs::read(built.path("sbom.json"))?)?;
    let tools = bill["metadata"]["tools"]["components"].as_array().ok_or("no tools")?;
    let version = |name: &str| {
        let tool = tools.iter().find(|tool| tool["name"] == name);
        tool.and_then(|tool| tool["version"].as_str()).unwrap_or_default().to_owned()
    };
    let gcc = run(Command::new("gcc").arg("-dumpfullversion"))?;
    assert_eq!(version("gcc"), gcc.trim());
    let rustc = run(Command::new("rustc").arg("--version"))?;
    assert_eq!(Some(version("rustc").as_str()), rustc.split(' ').nth(1));
    let cmake = run(Command::new("cmake").arg("--version"))?;
    assert_eq!(Some(version("cmake").as_str()), cmake.split_whitespace().nth(2));
    let components = bill["components"].as_array().ok_or("no components")?;
    let randomx = components.iter().find(|component| component["name"] == "RandomX");
    let randomx = randomx.ok_or("no RandomX")?;
    assert_eq!(randomx["version"], "1.2.1");
    Ok(())
}

fn skopeo_reads_both_forms(world: &World) -> Outcome {
    skopeo_reads(world.miner()?, "daylight-miner", &json!(["/daylight-miner", "run", "--"]))
}

fn skopeo_reads(built: &Built, title: &str, entry_point: &Value) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    for (form, name) in [("oci", "layout"), ("oci-archive", "image.tar")] {
        let image = format!("{form}:{}:{version}", built.path(name).display());
        let about: Value =
            serde_json::from_str(&run(Command::new("skopeo").args(["inspect", &image]))?)?;
        assert_eq!(about["Digest"], built.digest.as_str());
        assert_eq!(about["Labels"]["org.opencontainers.image.title"], title);
        let config = run(Command::new("skopeo").args(["inspect", "--config", &image]))?;
        let config: Value = serde_json::from_str(&config)?;
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(&config["config"]["Entrypoint"], entry_point);
    }
    Ok(())
}

fn containerd_calls_it(world: &World) -> Outcome {
    let built = world.miner()?;
    let containerd = Containerd::start()?;
    // As kind does it, but with the snapshotter that works on every file system.
    let archive = built.path("image.tar").to_string_lossy().into_owned();
    let kind = ["--all-platforms", "--digests", "--snapshotter", "native"];
    containerd.ctr(&[&["images", "import"], &kind[..], &[&*archive]].concat())?;
    containerd.has("daylight.dev/miner", built)
}

/// A containerd of its own.
struct Containerd {
    socket: PathBuf,
    scratch: TempDir,
    _daemon: Ended,
}

impl Containerd {
    fn start() -> Outcome<Self> {
        let scratch = tempfile::tempdir()?;
        let place = |name: &str| scratch.path().join(name);
        let (config, socket) = (place("config.toml"), place("socket"));
        let text = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{}'\n",
            place("root").display(),
            place("state").display(),
            socket.display(),
        );
        fs::write(&config, text)?;
        let (log, log_file) = (place("log"), File::create(place("log"))?);
        let mut daemon = Command::new("containerd");
        daemon.arg("-c").arg(&config).stdout(log_file.try_clone()?).stderr(log_file);
        let started = Self { _daemon: Ended(daemon.spawn()?), socket, scratch };
        let begun = Instant::now();
        while let Err(error) = started.ctr(&["version"]) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{error}\n{}", fs::read_to_string(log)?).into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(started)
    }

    fn ctr(&self, arguments: &[&str]) -> Outcome<String> {
        run(Command::new("ctr").arg("-a").arg(&self.socket).args(["-n", "k8s.io"]).args(arguments))
    }

    /// Checks that it has the image by its name.
    fn has(&self, name: &str, built: &Built) -> Outcome {
        let images = self.ctr(&["images", "list"])?;
        let name = format!("{name}:{} ", env!("CARGO_PKG_VERSION"));
        let line = images.lines().find(|line| line.starts_with(&name));
        let line = line.ok_or_else(|| format!("no {name}in {images}"))?;
        assert!(line.contains(&built.digest), "{line}");
        Ok(())
    }
}

/// A bundle of an image, for runc.
struct Bundle {
    scratch: TempDir,
    config: Value,
}

impl Bundle {
    fn of(built: &Built) -> Outcome<Self> {
        let scratch = tempfile::tempdir()?;
        let image = format!("{}:{}", built.path("layout").display(), env!("CARGO_PKG_VERSION"));
        let bundle = scratch.path().join("bundle");
        run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle))?;
        let mut config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?;
        assert_eq!(config["process"]["user"], json!({ "uid": 65532, "gid": 65532 }));
        config["process"]["terminal"] = false.into();
        config["process"]["capabilities"] = json!({});
        config["process"]["noNewPrivileges"] = true.into();
        config["root"]["readonly"] = true.into();
        Ok(Self { scratch, config })
    }

    fn run(&mut self, name: &str, arguments: &Value) -> Outcome<Output> {
        let bundle = self.scratch.path().join("bundle");
        self.config["process"]["args"] = arguments.clone();
        fs::write(bundle.join("config.json"), self.config.to_string())?;
        let mut runc = Command::new("runc");
        let state = self.scratch.path().join("runc");
        runc.arg("--root").arg(state).args(["run", "--bundle"]).arg(bundle);
        let id = format!("daylight-image-{name}-{}", std::process::id());
        Ok(runc.arg(id).stdin(Stdio::null()).output()?)
    }
}

fn runc_runs_it(world: &World) -> Outcome {
    let mut bundle = Bundle::of(world.miner()?)?;
    let entry_point = bundle.config["process"]["args"].clone();
    let answer = bundle.run("version", &json!(["/daylight-miner", "--version"]))?;
    let version = format!("daylight-miner {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&answer.stdout), version, "{answer:?}");
    assert!(answer.status.success());

    // As a pod without arguments, of a registration that forgot the engine.
    let refusal = bundle.run("nothing", &entry_point)?;
    assert_eq!(refusal.status.code(), Some(12), "{refusal:?}");
    assert!(String::from_utf8_lossy(&refusal.stderr).contains("engine.command"), "{refusal:?}");
    // What a registration gives its engine is for the engine.
    let mut arguments = entry_point.as_array().cloned().unwrap_or_default();
    arguments.extend(["/daylight-miner".into(), "--version".into()]);
    let engine = bundle.run("engine", &arguments.into())?;
    assert!(String::from_utf8_lossy(&engine.stdout).contains(version.trim()), "{engine:?}");
    Ok(())
}

// ---- the means --------------------------------------------------------------

/// Ends a process, whatever the test says.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn builder() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_miner-image"));
    command.current_dir(workspace());
    command
}

fn operator_builder() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_operator-image"));
    command.current_dir(workspace());
    command
}

/// What a command that has to succeed prints.
fn run(command: &mut Command) -> Outcome<String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
        .into())
}

/// The least file that is a static executable for this machine: nothing but a header.
fn program(folder: &Path) -> Outcome<PathBuf> {
    let machine = if cfg!(target_arch = "aarch64") { 183_u16 } else { 62 };
    let mut elf = vec![0; 64];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[16..18].copy_from_slice(&2_u16.to_le_bytes());
    elf[18..20].copy_from_slice(&machine.to_le_bytes());
    elf[20] = 1;
    elf[52] = 64;
    let path = folder.join("program");
    fs::write(&path, elf)?;
    Ok(path)
}

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> Outcome<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(folder)?.to_owned(), fs::read(&path)?));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Unpacks the one layer.
fn unpack(layout: &Path, root: &Path) -> Outcome {
    let layer = blob(layout, &manifest(layout)?["layers"][0]["digest"])?;
    tar::Archive::new(flate2::read::GzDecoder::new(layer.as_slice())).unpack(root)?;
    Ok(())
}

fn config(layout: &Path) -> Outcome<Value> {
    Ok(serde_json::from_slice(&blob(layout, &manifest(layout)?["config"]["digest"])?)?)
}

fn manifest(layout: &Path) -> Outcome<Value> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    Ok(serde_json::from_slice(&blob(layout, &index["manifests"][0]["digest"])?)?)
}

fn blob(layout: &Path, digest: &Value) -> Outcome<Vec<u8>> {
    let digest = digest.as_str().unwrap_or_default().replace(':', "/");
    Ok(fs::read(layout.join("blobs").join(digest))?)
}
