//! Compiles the BPF programs of the load generator (`bpf/*.bpf.c`) with clang.

use std::path::PathBuf;
use std::process::{Command, exit};

const PROGRAMS: [&str; 4] = ["generate", "multiply", "receive", "reflect"];

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    // Debian keeps <asm/types.h> in a folder of the host's architecture, which clang for BPF does not search.
    let host_headers = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    for program in PROGRAMS {
        let status = Command::new(&clang)
            .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror"])
            .args(["-I", &host_headers, "-c", &format!("bpf/{program}.bpf.c"), "-o"])
            .arg(out.join(format!("{program}.bpf.o")))
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(_) => fail(&format!("{clang} could not compile bpf/{program}.bpf.c: its message stands above")),
            Err(error) => fail(&format!(
                "cannot run {clang} ({error}): it compiles the load generator's BPF programs. \
                 Install it with `deploy/setup.sh build`, or name it in the environment variable CLANG"
            )),
        }
    }
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
