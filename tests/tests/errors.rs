//! What `barewire` says when it cannot start: each cause has its own message, on one line, that says what to do
//! next; the exit code is 2 for what was asked for wrongly and 1 for what failed; and nothing stays at the
//! interface. Needs root.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use barewire::device::{AfXdp, SocketConfig};
use barewire_tests::lab::{Lab, METRICS, Refusal, barewire};
use barewire_tests::netns::{Veth, run};

/// Both drivers, as `--driver` names them.
const DRIVERS: [&str; 2] = ["rings", "xsk-rs"];

/// Fails unless the refusal has the exit code, its message is one line and has all of `words`, and the interface
/// has no XDP program.
fn assert_refusal(lab: &Lab, refusal: &Refusal, code: i32, words: &[&str]) {
    assert_message(refusal, code, words);
    assert_eq!(lab.xdp(), None, "{}", refusal.stderr);
}

/// The same, whatever is at the interface.
fn assert_message(refusal: &Refusal, code: i32, words: &[&str]) {
    let Refusal { stderr, stdout, took, .. } = refusal;
    println!("exit code {} after {took:?}: {stderr}", refusal.code);
    assert_eq!(refusal.code, code, "{stderr}");
    assert!(stdout.is_empty(), "{stdout:?}");
    let messages: Vec<&str> =
        stderr.lines().filter(|line| line.starts_with("barewire: ") || line.starts_with("error: ")).collect();
    let [message] = messages[..] else { panic!("not one message: {stderr}") };
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
    for debris in ["Os {", "Error(", "Some(", "panicked", "  "] {
        assert!(!message.contains(debris), "{debris:?} in: {message}");
    }
}

/// A lab whose engine is refused with these options.
fn assert_refused(queues: u32, options: &[&str], code: i32, words: &[&str]) {
    let lab = Lab::new(queues);
    assert_refusal(&lab, &lab.refused(options), code, words);
}

/// `barewire echo` with all of its options given.
fn assert_refused_with(arguments: &[&str], code: i32, words: &[&str]) {
    let lab = Lab::new(1);
    assert_refusal(&lab, &lab.refused_command(Lab::command(arguments)), code, words);
}

/// A directory for files, removed on drop.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bw-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_interface_that_does_not_exist() {
    let arguments = ["echo", "--interface", "nope0", "--address", "10.0.0.2/24"];
    assert_refused_with(&arguments, 1, &["no interface nope0", "`ip link`"]);
}

#[test]
fn an_interface_that_is_not_ethernet() {
    assert_refused_with(
        &["echo", "--interface", "lo", "--address", "10.0.0.2/24"],
        1,
        &["lo", "Ethernet", "`ip link`"],
    );
}

#[test]
fn an_interface_that_is_down() {
    let lab = Lab::new(1);
    lab.veth.near.ip(&["link", "set", Veth::NEAR, "down"]);
    assert_refusal(&lab, &lab.refused(&[]), 1, &["near0 is down", "`ip link set near0 up`"]);
}

/// `setpriv`, to run the command with other privileges.
fn setpriv(options: &[&str], program: &Path, more: &[&str]) -> Command {
    let echo = Lab::echo(more);
    let mut command = Command::new("setpriv");
    command.args(options).arg(program).args(echo.get_args());
    command
}

#[test]
fn no_privileges_at_all() {
    // Another user may not be able to read where it was built.
    let directory = Directory::new("nobody");
    let program = PathBuf::from(directory.path("barewire"));
    fs::copy(barewire(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let refusal = lab.refused_command(setpriv(&nobody, &program, &["--driver", driver]));
        assert_refusal(&lab, &refusal, 1, &["no permission to load the XDP program", "sudo", "CAP_BPF"]);
    }
}

#[test]
fn no_privilege_to_open_raw_sockets() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let without = setpriv(&["--bounding-set=-net_raw"], barewire(), &["--driver", driver]);
        let words = ["no permission to open an AF_XDP socket", "sudo", "CAP_NET_RAW"];
        assert_refusal(&lab, &lab.refused_command(without), 1, &words);
    }
}

#[test]
fn three_capabilities_and_the_right_to_lock_memory_are_enough() {
    let lab = Lab::new(1);
    let kept = "--bounding-set=-all,+net_admin,+net_raw,+bpf,+ipc_lock";
    let engine = lab.start_command(setpriv(&[kept], barewire(), &[]));
    lab.ping(Lab::ENGINE, 3);
    drop(engine);
}

#[test]
fn too_little_memory_may_be_locked() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let mut command = Command::new("prlimit");
        let without = setpriv(&["--bounding-set=-ipc_lock"], barewire(), &["--driver", driver]);
        command.arg("--memlock=65536").arg(without.get_program()).args(without.get_args());
        let words = ["not allowed to lock", "ulimit -l", "LimitMEMLOCK", "CAP_IPC_LOCK", "--ring-size"];
        assert_refusal(&lab, &lab.refused_command(command), 1, &words);
    }
}

#[test]
fn there_is_too_little_memory() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let echo = Lab::echo(&["--driver", driver, "--ring-size", "1048576"]);
        let mut command = Command::new("prlimit");
        command.arg("--as=1000000000").arg(echo.get_program()).args(echo.get_args());
        assert_refusal(&lab, &lab.refused_command(command), 1, &["no memory for packets", "--ring-size", "ulimit -v"]);
    }
}

#[test]
fn another_xdp_program_is_attached() {
    // One of another tool's, put there as `ip` does it.
    let directory = Directory::new("xdp");
    let source = "__attribute__((section(\"xdp\"), used)) int pass(void *ctx) { return 2; }\n\
                  char _license[] __attribute__((section(\"license\"), used)) = \"GPL\";\n";
    let (source, object) = (directory.write("pass.c", source), directory.path("pass.o"));
    run("clang", &["-O2", "-g", "-target", "bpf", "-c", &source, "-o", &object]);
    for mode in ["auto", "generic", "copy"] {
        let lab = Lab::new(1);
        lab.veth.near.ip(&["link", "set", "dev", Veth::NEAR, "xdp", "obj", &object, "sec", "xdp"]);
        let words = ["another XDP program", "near0", "ip link set dev near0 xdp off"];
        assert_message(&lab.refused(&["--mode", mode]), 1, &words);
        assert!(lab.xdp().is_some(), "the other program is gone");
        lab.veth.near.ip(&["link", "set", "dev", Veth::NEAR, "xdp", "off"]);
        let _engine = lab.start(&["--mode", mode]);
    }
}

#[test]
fn another_engine_is_at_work() {
    let lab = Lab::new(1);
    let _first = lab.start(&[]);
    let other = ["echo", "--interface", Veth::NEAR, "--address", "10.0.0.5/24"];
    let refusal = lab.refused_command(Lab::command(&other));
    assert_message(&refusal, 1, &["another XDP program", "near0", "bpftool link"]);
    lab.ping(Lab::ENGINE, 3);
}

#[test]
fn a_queue_that_another_socket_has() {
    for driver in DRIVERS {
        let lab = Lab::new(2);
        let config = SocketConfig::new(Veth::NEAR, lab.veth.near_index(), 1);
        let _other = lab.veth.near.enter(|| AfXdp::open(&config)).unwrap();
        let refusal = lab.refused(&["--driver", driver, "--idle", "poll"]);
        assert_refusal(&lab, &refusal, 1, &["queue 1 of near0 is taken by another AF_XDP socket", "`ss --xdp -p`"]);
    }
}

#[test]
fn an_address_that_another_host_has() {
    for driver in DRIVERS {
        let lab = Lab::new(2);
        // The host's answer comes in on the queue that did not ask.
        lab.send_on_queue(1, 2);
        let taken = ["echo", "--interface", Veth::NEAR, "--address", "10.0.0.3/24", "--driver", driver];
        let refusal = lab.refused_command(Lab::command(&[&taken[..], &["--idle", "poll"]].concat()));
        let words = ["10.0.0.3 is already used on the link of near0", "02:00:00:00:00:02", "--address"];
        assert_refusal(&lab, &refusal, 1, &words);
        lab.ping(Lab::KERNEL, 3);
    }
}

#[test]
fn an_address_of_this_hosts_own_kernel() {
    let arguments = ["echo", "--interface", Veth::NEAR, "--address", "10.0.0.1/24"];
    assert_refused_with(&arguments, 1, &["10.0.0.1 is an address of this host's own kernel", "--address"]);
}

#[test]
fn an_mtu_too_large_for_the_mode() {
    let several = "refuses zero-copy on queue 0 with frames of several chunks, which an MTU above 3046 needs";
    let cases: [(&[&str], u32, &[&str]); 5] = [
        (&["--mode", "auto"], 65_000, &["MTU of near0, 65000"]),
        (&["--mode", "copy"], 61_415, &["MTU of near0, 61415"]),
        (&["--mode", "generic"], 65_000, &["MTU of near0, 65000"]),
        (&["--mode", "zero-copy"], 9000, &["the driver of near0", several, "--mode copy"]),
        (&["--driver", "xsk-rs"], 9000, &["MTU of near0, 9000", "--driver rings"]),
    ];
    for (options, mtu, words) in cases {
        let lab = Lab::new(1);
        lab.veth.set_mtu(mtu);
        let refusal = lab.refused(options);
        assert_refusal(&lab, &refusal, 1, &[words, &["ip link set near0 mtu "]].concat());
        // What it says to do helps.
        let (_, most) = refusal.stderr.rsplit_once("mtu ").unwrap();
        let most: String = most.chars().take_while(char::is_ascii_digit).collect();
        lab.veth.set_mtu(most.parse().unwrap());
        if options != ["--mode", "zero-copy"] {
            let _engine = lab.start(options);
            lab.ping(Lab::ENGINE, 3);
        }
    }
}

#[test]
fn zero_copy_where_there_is_none() {
    for driver in DRIVERS {
        let words = ["near0 refuses zero-copy", "--mode copy", "--mode auto"];
        assert_refused(1, &["--driver", driver, "--mode", "zero-copy"], 1, &words);
    }
}

#[test]
fn a_queue_that_does_not_exist() {
    let words = ["near0 has no queue 2", "it has 2", "`ethtool -l near0`", "--queues all"];
    assert_refused(2, &["--queues", "0,2"], 2, &words);
}

#[test]
fn more_spinning_workers_than_cores() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let (workers, needed) = (cores.to_string(), (cores + 1).to_string());
    let words = [&format!("{workers} spinning workers need {needed} cores"), "--idle adaptive", "--queues"];
    assert_refused(u32::try_from(cores).unwrap(), &["--idle", "spin"], 2, &words);
}

#[test]
fn cores_that_do_not_fit() {
    assert_refused(1, &["--cores", "4095"], 2, &["core 4095 is not available", "--cores"]);
    assert_refused(2, &["--cores", "0"], 2, &["2 queues", "--cores names 1", "--queues"]);
}

#[test]
fn metrics_that_cannot_be_served() {
    let lab = Lab::new(1);
    let _other = lab.veth.near.enter(|| TcpListener::bind(METRICS)).unwrap();
    assert_refusal(&lab, &lab.refused(&[]), 1, &["metrics at 127.0.0.1:9100", "in use", "--metrics", "free port"]);
    let elsewhere = ["echo", "--interface", Veth::NEAR, "--address", Lab::ADDRESS, "--metrics", "192.0.2.1:9100"];
    let refusal = lab.refused_command(Lab::command(&elsewhere));
    assert_refusal(&lab, &refusal, 1, &["metrics at 192.0.2.1:9100", "address of this host"]);
}

#[test]
fn options_that_make_no_sense() {
    let lab = Lab::new(1);
    let on = |more: &[&str]| Lab::command(&[&["echo", "--interface", Veth::NEAR], more].concat());
    let cases: [(&[&str], &[&str]); 29] = [
        (&[], &["no address", "--address CIDR"]),
        (&["--address", "10.0.0.2"], &["--address", "10.0.0.2/24"]),
        (&["--address", "10.0.0.300/24"], &["--address", "for example 10.0.0.2/24"]),
        (&["--address", "10.0.0.2/33"], &["--address", "for example"]),
        (&["--address", "10.0.0.255/24"], &["--address", "for example 10.0.0.1/24"]),
        (&["--address", "fd00::/64"], &["--address", "for example fd00::1/64"]),
        (&["--address", Lab::ADDRESS, "--address", Lab::ADDRESS], &["--address", "twice"]),
        (&["--address", Lab::ADDRESS, "--gateway", "10.1.0.1"], &["--gateway 10.1.0.1", "on the link"]),
        (&["--address", Lab::ADDRESS, "--gateway", "router"], &["--gateway", "IP address"]),
        (&["--address", Lab::ADDRESS, "--gateway", "fe80::1"], &["--gateway fe80::1", "--address"]),
        (
            &["--address", Lab::ADDRESS, "--gateway", "10.0.0.1", "--gateway", "10.0.0.3"],
            &["--gateway 10.0.0.3", "--route"],
        ),
        (&["--address", Lab::ADDRESS, "--route", "192.0.2.0/24"], &["--route", "192.0.2.0/24 via 10.0.0.1"]),
        (
            &["--address", Lab::ADDRESS, "--route", "192.0.2.0/24 via 10.1.0.1"],
            &["--route 192.0.2.0/24", "on the link"],
        ),
        (&["--address", Lab::ADDRESS, "--routes", "all"], &["--routes", "all"]),
        (&["--address", Lab::ADDRESS, "--queues", "first"], &["--queues", "for example 0,1"]),
        (&["--address", Lab::ADDRESS, "--ring-size", "1000"], &["--ring-size 1000", "power of two"]),
        (&["--address", Lab::ADDRESS, "--udp-port", "0"], &["--udp-port 0", "1 to 65535"]),
        (&["--address", Lab::ADDRESS, "--udp-port", "70000"], &["--udp-port", "65535"]),
        (&["--address", Lab::ADDRESS, "--tcp-port", "0"], &["--tcp-port 0", "1 to 65535"]),
        (&["--address", Lab::ADDRESS, "--discard-port", "7"], &["--discard-port 7", "--udp-port"]),
        (&["--address", Lab::ADDRESS, "--chargen-port", "x"], &["--chargen-port", "'x'"]),
        (&["--address", Lab::ADDRESS, "--connections", "0"], &["--connections 0", "1 to 4194304"]),
        (&["--address", Lab::ADDRESS, "--connections", "10", "--backlog", "11"], &["--backlog 11", "--connections"]),
        (&["--address", Lab::ADDRESS, "--tcp-buffer", "1"], &["--tcp-buffer 1", "4K to 1G"]),
        (&["--address", Lab::ADDRESS, "--tcp-buffer", "lots"], &["--tcp-buffer", "for example 65536, 512K"]),
        (&["--address", Lab::ADDRESS, "--tcp-memory", "4K"], &["--tcp-memory 4K", "256K to 1024G"]),
        (&["--address", Lab::ADDRESS, "--tcp-memory", "64MB"], &["--tcp-memory", "64M or 2G"]),
        (&["--address", Lab::ADDRESS, "--metrics", "9100"], &["--metrics 9100", "127.0.0.1:9100"]),
        (&["--address", Lab::ADDRESS, "--mode", "fast"], &["--mode", "fast"]),
    ];
    for (options, words) in cases {
        assert_refusal(&lab, &lab.refused_command(on(options)), 2, words);
    }
    let refusal = lab.refused_command(Lab::command(&["echo", "--address", Lab::ADDRESS]));
    assert_refusal(&lab, &refusal, 2, &["no interface", "--interface IF"]);
}

#[test]
fn configuration_files_that_cannot_be_followed() {
    let lab = Lab::new(1);
    let directory = Directory::new("config");
    let refused = |path: &str| lab.refused_command(Lab::command(&["echo", "--config", path]));
    let absent = directory.path("absent.toml");
    assert_refusal(&lab, &refused(&absent), 2, &[&absent, "No such file", "--config"]);
    let good = "interface = 'near0'\naddress = ['10.0.0.2/24']\n";
    let cases = [
        ("udp_port = 7", "unknown field `udp_port`, expected one of"),
        ("udp-port = 70000", "expected u16"),
        ("ring-size = 1000", "power of two"),
        ("mode = 'fast'", "`zero-copy`"),
        ("queues = 'first'", "for example 0,1"),
        ("tcp-memory = 64", "expected a string"),
        ("tcp-memory = 'lots'", "for example 65536"),
        ("daytime-port = 7", "it is that of --udp-port"),
        ("gateway = '10.1.0.1'", "on the link"),
        ("gateway = 'router'", "an IP address, or a list of them"),
        ("route = ['192.0.2.0/24 via 10.1.0.1']", "on the link"),
        ("routes = 'all'", "`kernel`"),
        ("idle poll", "expected `=`"),
    ];
    for (line, hint) in cases {
        let path = directory.write("bad.toml", &format!("{good}{line}\n"));
        let refusal = refused(&path);
        assert_refusal(&lab, &refusal, 2, &[]);
        // The place in a file is shown on several lines.
        assert!(refusal.stderr.contains(hint), "no {hint:?} in: {}", refusal.stderr);
        let is_syntax = !["power of two", "on the link", "it is that of --udp-port"].contains(&hint);
        let place = format!("{path}: ");
        assert_eq!(
            refusal.stderr.contains(&place) && refusal.stderr.contains("line 3"),
            is_syntax,
            "{}",
            refusal.stderr
        );
    }
}
