//! Compiles the XDP program with clang. `CLANG` names another compiler than the `clang` in PATH.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const SOURCE: &str = "src/steer.bpf.c";
const INPUTS: [&str; 4] = [SOURCE, "src/steer.h", "src/syn_guard.h", "build.rs"];
const INSTALL: &str = "apt-get install clang libbpf-dev, or deploy/setup.sh build";

fn main() -> ExitCode {
    for input in INPUTS {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-env-changed=CLANG");

    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let object = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("steer.bpf.o");

    let output = command(&clang, &object).output().map_err(|error| {
        format!("cannot run {clang} to build the XDP program ({error}): {INSTALL}, or set CLANG to its path")
    })?;
    if output.status.success() {
        return Ok(());
    }

    let diagnostics = String::from_utf8_lossy(&output.stderr);
    if let Some(line) = diagnostics.lines().find(|line| line.contains("file not found")) {
        return Err(format!("a header of the XDP program is missing ({}): {INSTALL}", line.trim()));
    }
    if diagnostics.contains("No available targets") || diagnostics.contains("unknown target") {
        return Err(format!("{clang} cannot compile for bpf: set CLANG to one that can ({INSTALL})"));
    }
    eprintln!("{diagnostics}");
    Err(format!("{clang} does not compile ebpf/{SOURCE}; see its messages (clang 14 and 19 are known to)"))
}

fn command(clang: &str, object: &Path) -> Command {
    let mut command = Command::new(clang);
    command.args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror"]);
    // The same source gives the same object wherever it is built.
    command.arg("-fdebug-compilation-dir=.");
    // For bpf clang does not search the directory where Debian keeps <asm/types.h>.
    let multiarch = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    if Path::new(&multiarch).is_dir() {
        command.args(["-idirafter", &multiarch]);
    }
    command.args(["-c", SOURCE, "-o"]).arg(object);
    command
}
