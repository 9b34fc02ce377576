//! Holds the sources to the rules that no compiler checks: who may import whom, where unsafe code, clocks,
//! allocation and panics may stand, how long files and functions get, and that dependencies say why.
//!
//! Every rule is a function from a source to complaints, and has a planted violation below that it must find.

use barewire_tests::source::{Source, Token, files};

/// Which modules of `engine/src` a module may name. Those that are not here stand above the stack and the
/// device, and may name all.
const IMPORTS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("wire", &["base"]),
    ("link", &["base", "wire"]),
    ("network", &["base", "wire", "link"]),
    ("structure", &["base"]),
    ("transport", &["base", "wire", "link", "network", "structure"]),
    ("app", &["base"]),
    ("counters", &["base"]),
    ("stack", &["base", "wire", "link", "network", "structure", "transport", "app", "counters"]),
    ("apps", &["base", "wire", "app"]),
    ("device", &["base", "wire"]),
    ("worker", &["base", "app", "counters", "stack", "device"]),
    ("clock", &["base"]),
    ("steer", &["base", "wire"]),
    ("nic", &["base", "wire", "network"]),
];

/// Modules above the stack and the device.
const ABOVE: &[&str] = &["command", "config", "engine", "lib", "main", "metrics", "netlink", "net"];

/// Files that may contain unsafe code, and what for.
const UNSAFE: &[(&str, &str)] = &[
    ("bench/peers/smoltcp/src/system.rs", "signal handlers, and the size of a buffer"),
    ("bench/src/bpf.rs", "BPF_PROG_RUN with options that the safe wrapper lacks"),
    ("bench/src/epoll.rs", "epoll"),
    ("bench/src/mmsg.rs", "recvmmsg and sendmmsg"),
    ("bench/src/netns.rs", "setns"),
    ("bench/src/process.rs", "what a child process does between fork and exec, and a scheduling policy"),
    ("bench/src/signals.rs", "signal handlers, and the clock that the BPF programs read"),
    ("bench/src/tcp/socket.rs", "connect from a chosen port without waiting, accept4, TCP_INFO"),
    ("engine/src/base/prefetch.rs", "a hint to the processor"),
    ("engine/src/base/umem.rs", "the packet memory: mmap, and slices of it"),
    ("engine/src/clock.rs", "clock_gettime"),
    ("engine/src/device/af_xdp/ring.rs", "rings that are shared with the kernel"),
    ("engine/src/device/af_xdp/socket.rs", "system calls of AF_XDP sockets"),
    ("engine/src/device/gso/socket.rs", "system calls of a packet socket"),
    ("engine/src/device/xsk_rs.rs", "the xsk-rs crate, whose functions are unsafe"),
    ("engine/src/nic/ethtool.rs", "ioctl"),
    ("engine/src/nic/multicast.rs", "a packet socket and its option"),
    ("tests/src/kernel.rs", "system calls that tests look at the kernel with"),
    ("tests/src/netns.rs", "setns"),
    ("tests/src/packets.rs", "recvmmsg and sendmmsg of whole frames, many a system call"),
    ("tests/src/sockets.rs", "epoll, and options of TCP sockets that the standard library does not offer"),
    ("tests/tests/allocation.rs", "the counting allocator"),
];

/// What may read the clock.
const CLOCKS: &[(&str, &str)] = &[
    ("bench/", "measures time"),
    ("engine/src/clock.rs", "the engine's one clock"),
    ("engine/src/device/bind.rs", "gives up after a second of EBUSY, at start"),
    ("tests/", "gives up on a kernel that does not answer"),
];

/// The packet path.
const PATH: &[&str] = &[
    "engine/src/app",
    "engine/src/base/",
    "engine/src/device/af_xdp/",
    "engine/src/device/mod.rs",
    "engine/src/link/",
    "engine/src/network/",
    "engine/src/stack",
    "engine/src/structure/",
    "engine/src/transport/",
    "engine/src/wire/",
    "engine/src/worker.rs",
];

/// What may not be written in functions on the packet path.
const BANNED: &[(&[&str], &str)] = &[
    (&[".", "unwrap", "("], "panics"),
    (&[".", "expect", "("], "panics"),
    (&["panic", "!"], "panics"),
    (&["unreachable", "!"], "panics"),
    (&["assert", "!"], "panics: use debug_assert!"),
    (&["assert_eq", "!"], "panics: use debug_assert_eq!"),
    (&["println", "!"], "prints"),
    (&["eprintln", "!"], "prints"),
    (&["tracing", "::"], "logs"),
    (&["dyn"], "calls through a table"),
    (&["Box", "::", "new"], "allocates"),
    (&["Vec", "::", "new"], "allocates"),
    (&["Vec", "::", "with_capacity"], "allocates"),
    (&["vec", "!"], "allocates"),
    (&["format", "!"], "allocates"),
    (&["String"], "allocates"),
    (&[".", "to_vec", "("], "allocates"),
    (&[".", "to_string", "("], "allocates"),
    (&[".", "to_owned", "("], "allocates"),
    (&[".", "collect", "("], "allocates"),
];

/// What may stand nowhere in a file of the packet path.
const BANNED_EVERYWHERE: &[&str] = &["Mutex", "RwLock"];

/// Functions that run before the first packet or beside the path, and may do all that. Those named `new` may allocate
/// anyway.
const START: &[(&str, &str, &str)] = &[
    ("engine/src/base/umem.rs", "from_driver", "takes over a driver's memory, with what keeps it mapped"),
    ("engine/src/base/umem.rs", "with_memory", "makes the metadata of all chunks"),
    ("engine/src/network/autoconf.rs", "routes", "what a table is made of, by housekeeping"),
    ("engine/src/network/route.rs", "of", "makes a table, which is then swapped with the one in use"),
    ("engine/src/transport/tcp/config.rs", "default", "a list of ports to be filled in"),
];

/// Lines of a file, and of a function.
const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 100;

/// Lines above `unsafe` in which its reason has to stand.
const SAFETY_WITHIN: usize = 8;

fn sources() -> Vec<Source> {
    files(&["rs"]).iter().map(|(path, text)| Source::parse(path, text)).collect()
}

/// Fails with all complaints that `rule` has about any source.
fn hold(rule: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_point_one_way() {
    hold(imports);
}

#[test]
fn unsafe_code_stands_where_it_is_listed_and_says_why_it_is_sound() {
    hold(unsafe_code);
    let sources = sources();
    for (path, _) in UNSAFE {
        let used = sources.iter().any(|source| source.path == *path && source.find(&["unsafe"]).count() > 0);
        assert!(used, "{path} has no unsafe code any more: take it off the list in tests/tests/source.rs");
    }
}

#[test]
fn clocks_are_read_where_it_is_listed() {
    hold(clocks);
}

#[test]
fn the_packet_path_neither_panics_nor_allocates_nor_locks_nor_logs() {
    hold(packet_path);
    let sources = sources();
    for (path, function, _) in START {
        let exists = sources.iter().any(|s| s.path == *path && s.functions.iter().any(|f| &*f.name == *function));
        assert!(exists, "{path} has no function {function} any more: take it off the list in tests/tests/source.rs");
    }
}

#[test]
fn files_and_functions_are_short() {
    let mut complaints: Vec<(usize, String)> = sources().iter().flat_map(long_functions).collect();
    for (path, text) in files(&["rs", "c", "h"]) {
        complaints.extend(long_file(&path, &text));
        complaints.extend(if path.ends_with(".rs") { Vec::new() } else { long_c_functions(&path, &text) });
    }
    complaints.sort_by_key(|(lines, _)| std::cmp::Reverse(*lines));
    let text: Vec<String> = complaints.into_iter().map(|(_, text)| text).collect();
    assert!(text.is_empty(), "longest first:\n{}\n", text.join("\n"));
}

#[test]
fn tests_that_are_ignored_say_why() {
    hold(ignored);
}

#[test]
fn nothing_is_left_undone() {
    let files = files(&["rs", "c", "h", "md", "toml", "sh", "service", "yml", ""]);
    let complaints: Vec<String> = files.iter().flat_map(|(path, text)| undone(path, text)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_dependency_says_why() {
    let manifest = files(&["toml"]).into_iter().find(|(path, _)| path == "Cargo.toml").expect("a manifest").1;
    let complaints = unexplained_dependencies(&manifest);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The top-level module of `engine/src` that a file belongs to.
fn module(path: &str) -> Option<&str> {
    path.strip_prefix("engine/src/")?.split('/').next()?.strip_suffix(".rs").or_else(|| path.split('/').nth(2))
}

fn imports(source: &Source) -> Vec<String> {
    let Some(module) = module(&source.path) else { return Vec::new() };
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
        let known = ABOVE.contains(&module);
        let complaint = format!("{}: say in tests/tests/source.rs what module {module} may import", source.path);
        return if known { Vec::new() } else { vec![complaint] };
    };
    named_modules(source)
        .into_iter()
        .filter(|(token, name)| {
            // Tests of the stack run an application on it.
            let test = token.test && name == "apps";
            name != module && !allowed.contains(&name.as_str()) && !test
        })
        .map(|(token, name)| format!("{}: {module} names {name}; it may name {allowed:?}", source.at(token.line)))
        .collect()
}

/// The top-level modules that a file names, by `crate::` or by `super::`.
fn named_modules(source: &Source) -> Vec<(&Token, String)> {
    let mut named = Vec::new();
    for (i, token) in source.tokens.iter().enumerate() {
        let start = match token.text.as_str() {
            "crate" if source.text(i + 1) == "::" => i + 2,
            "super" if source.text(i + 1) == "::" && source.text(i.wrapping_sub(1)) != "::" => {
                let mut end = i;
                while source.text(end) == "super" && source.text(end + 1) == "::" {
                    end += 2;
                }
                if (end - i) / 2 < depth(&source.path) + token.mods {
                    continue;
                }
                end
            }
            _ => continue,
        };
        named.extend(first_names(source, start).into_iter().map(|name| (token, name)));
    }
    named
}

/// How many modules deep a file of `engine/src` stands: `stack.rs` and `base/mod.rs` one.
fn depth(path: &str) -> usize {
    let inner = path.trim_start_matches("engine/src/").trim_end_matches("/mod.rs");
    inner.split('/').count() - usize::from(matches!(inner, "lib.rs" | "main.rs"))
}

/// The first names of the paths that start at a token: of `{a::b, c}` both.
fn first_names(source: &Source, start: usize) -> Vec<String> {
    if source.text(start) != "{" {
        return vec![source.text(start).to_string()];
    }
    let mut names = vec![source.text(start + 1).to_string()];
    let mut depth = 1;
    for i in start + 1..source.tokens.len() {
        match source.text(i) {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 && source.text(i + 1) != "}" => names.push(source.text(i + 1).to_string()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn unsafe_code(source: &Source) -> Vec<String> {
    let listed = UNSAFE.iter().any(|(path, _)| *path == source.path);
    let mut complaints = Vec::new();
    for (i, token) in source.find(&["unsafe"]) {
        let at = source.at(token.line);
        if !listed {
            complaints.push(format!("{at}: unsafe code; files that may have it are listed in tests/tests/source.rs"));
        }
        let above = &source.lines[token.line.saturating_sub(SAFETY_WITHIN + 1)..token.line];
        let explained = above.iter().any(|line| line.trim_start().starts_with("// SAFETY:"));
        if matches!(source.text(i + 1), "{" | "impl") && !explained {
            complaints.push(format!("{at}: no `// SAFETY:` in the {SAFETY_WITHIN} lines above"));
        }
    }
    if !listed && source.find(&["(", "unsafe_code"]).any(|(i, _)| matches!(source.text(i - 1), "allow" | "expect")) {
        complaints.push(format!("{}: allows unsafe code, and is not listed in tests/tests/source.rs", source.path));
    }
    complaints
}

fn clocks(source: &Source) -> Vec<String> {
    if CLOCKS.iter().any(|(path, _)| source.path.starts_with(path)) {
        return Vec::new();
    }
    let reads = [&["Instant", "::", "now"][..], &["SystemTime"], &["clock_gettime"]];
    let found = reads.iter().flat_map(|tokens| source.find(tokens));
    found.map(|(_, token)| format!("{}: reads a clock; time is an argument here", source.at(token.line))).collect()
}

fn packet_path(source: &Source) -> Vec<String> {
    if !PATH.iter().any(|path| source.path.starts_with(path)) {
        return Vec::new();
    }
    let start = |function: &str| START.iter().any(|(path, name, _)| *path == source.path && *name == function);
    let mut complaints = Vec::new();
    for (tokens, does) in BANNED {
        for (_, token) in source.find(tokens).filter(|(_, token)| !token.test) {
            let starting = |function: &str| start(function) || (function == "new" && *does == "allocates");
            if let Some(function) = token.function.as_deref().filter(|function| !starting(function)) {
                let at = source.at(token.line);
                complaints.push(format!("{at}: `{}` in {function}, on the packet path: it {does}", tokens.concat()));
            }
        }
    }
    for name in BANNED_EVERYWHERE {
        let found = source.find(std::slice::from_ref(name));
        complaints.extend(found.map(|(_, token)| format!("{}: {name} on the packet path", source.at(token.line))));
    }
    complaints
}

fn long_functions(source: &Source) -> Vec<(usize, String)> {
    let long = source.functions.iter().filter(|function| function.lines > LONGEST_FUNCTION);
    long.map(|f| (f.lines, format!("{}: {} has {} lines, of {LONGEST_FUNCTION}", source.at(f.line), f.name, f.lines)))
        .collect()
}

/// Blocks of C that end with a brace at the start of a line, as functions do.
fn long_c_functions(path: &str, text: &str) -> Vec<(usize, String)> {
    let mut start = 0;
    let mut long = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.starts_with('}') && i - start >= LONGEST_FUNCTION {
            let lines = i - start + 1;
            long.push((lines, format!("{path}:{}: a block of {lines} lines, of {LONGEST_FUNCTION}", start + 1)));
        } else if line.ends_with('{') && !line.starts_with(char::is_whitespace) {
            start = i;
        }
    }
    long
}

fn long_file(path: &str, text: &str) -> Option<(usize, String)> {
    let lines = text.lines().count();
    (lines > LONGEST_FILE).then(|| (lines, format!("{path}: {lines} lines, of {LONGEST_FILE}")))
}

fn ignored(source: &Source) -> Vec<String> {
    let found = source.find(&["#", "[", "ignore", "]"]);
    found.map(|(_, token)| format!("{}: ignored without a reason", source.at(token.line))).collect()
}

fn undone(path: &str, text: &str) -> Vec<String> {
    // Written in two pieces, so that this file passes.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let macros = [concat!("unimplemented", "!("), concat!("todo", "!(")];
    let homes = [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    let mut complaints = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let at = format!("{path}:{}", i + 1);
        let mut line_words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if line_words.any(|word| words.contains(&word)) || macros.iter().any(|text| line.contains(text)) {
            complaints.push(format!("{at}: something is left to do"));
        }
        let is_home = |home: &&str| {
            let before = line.find(*home).map(|at| line[..at].chars().next_back());
            before.is_some_and(|c| !c.is_some_and(|c| c.is_alphanumeric() || "_-./}".contains(c)))
        };
        if homes.iter().any(is_home) {
            complaints.push(format!("{at}: a path of one machine"));
        }
    }
    complaints
}

/// Dependencies without a comment above them, or above the group without blank lines that they are in.
fn unexplained_dependencies(manifest: &str) -> Vec<String> {
    let table = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let mut explained = false;
    let mut complaints = Vec::new();
    for line in table.take_while(|line| !line.starts_with('[')) {
        if line.starts_with('#') {
            explained = true;
        } else if line.is_empty() {
            explained = false;
        } else if !explained && !line.contains("path =") {
            complaints.push(format!("Cargo.toml: nothing above it says what for: {line}"));
        }
    }
    complaints
}

mod planted {
    use super::*;

    fn complaints(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&Source::parse(path, text)).len()
    }

    #[test]
    fn an_import_against_the_direction_is_found() {
        let found = |path: &str, text: &str| complaints(imports, path, text);
        assert_eq!(found("engine/src/wire/udp.rs", "use crate::base::Umem; use super::be16;"), 0);
        assert_eq!(found("engine/src/wire/udp.rs", "use crate::stack::Stack;"), 1);
        assert_eq!(found("engine/src/wire/udp.rs", "use crate::{base::Umem, link::{arp, address}, app};"), 2);
        assert_eq!(found("engine/src/wire/udp.rs", "use super::super::link;"), 1);
        assert_eq!(found("engine/src/wire/udp.rs", "mod a { use super::super::link; }"), 0);
        assert_eq!(found("engine/src/wire/udp.rs", "mod a { use super::super::super::link; }"), 1);
        assert_eq!(found("engine/src/wire/mod.rs", "use super::link;"), 1);
        assert_eq!(found("engine/src/stack.rs", "fn f() { let d: crate::device::AfXdp; }"), 1);
        assert_eq!(found("engine/src/stack/egress.rs", "pub(super) fn f() { super::f(); }"), 0);
        assert_eq!(found("engine/src/device/af_xdp/ring.rs", "use crate::stack::Stack;"), 1);
        assert_eq!(found("engine/src/device/mod.rs", "use crate::*;"), 1);
        assert_eq!(found("engine/src/apps/echo.rs", "use crate::transport::udp;"), 1);
        assert_eq!(found("engine/src/stack.rs", "use crate::apps::echo::Echo;"), 1);
        assert_eq!(found("engine/src/stack/tests.rs", "use crate::apps::echo::Echo;"), 0);
        assert_eq!(found("engine/src/stack/tests.rs", "use crate::device::AfXdp;"), 1);
        assert_eq!(found("engine/src/worker.rs", "use crate::{device, stack};"), 0);
        assert_eq!(found("engine/src/nowhere.rs", "use crate::device;"), 1);
        assert_eq!(found("engine/src/engine.rs", "use crate::{device, stack};"), 0);
        assert_eq!(found("bench/src/main.rs", "use crate::stack;"), 0);
    }

    #[test]
    fn unsafe_code_in_the_wrong_place_or_without_a_reason_is_found() {
        let found = |path: &str, text: &str| complaints(unsafe_code, path, text);
        let block = "// SAFETY: it is.\nfn f() { unsafe { g() } }";
        assert_eq!(found("engine/src/base/umem.rs", block), 0);
        assert_eq!(found("engine/src/stack.rs", block), 1);
        assert_eq!(found("engine/src/base/umem.rs", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(found("engine/src/base/umem.rs", "unsafe impl Send for X {}"), 1);
        assert_eq!(found("engine/src/stack.rs", "#![allow(unsafe_code)]"), 1);
        assert_eq!(found("engine/src/stack.rs", "#![forbid(unsafe_code)] // unsafe { }"), 0);
        let far = format!("// SAFETY: it is.{}fn f() {{ unsafe {{ g() }} }}", "\n".repeat(SAFETY_WITHIN + 1));
        assert_eq!(found("engine/src/base/umem.rs", &far), 1);
    }

    #[test]
    fn a_clock_in_the_stack_is_found() {
        assert_eq!(complaints(clocks, "engine/src/stack.rs", "fn f() { std::time::Instant::now(); }"), 1);
        assert_eq!(complaints(clocks, "engine/src/stack.rs", "use std::time::SystemTime;"), 1);
        assert_eq!(complaints(clocks, "engine/src/clock.rs", "fn f() { clock_gettime(); }"), 0);
    }

    #[test]
    fn a_panic_an_allocation_a_lock_and_a_log_on_the_packet_path_are_found() {
        let found = |text: &str| complaints(packet_path, "engine/src/wire/udp.rs", text);
        assert_eq!(found("fn f() { x.unwrap(); }"), 1);
        assert_eq!(found("fn f() { x\n    .expect(\"y\"); }"), 1);
        assert_eq!(found("fn f() { x.unwrap_or(1); let s = \"x.unwrap()\"; } // vec![]"), 0);
        assert_eq!(found("fn f(x: &dyn Any) { tracing::info!(\"\"); }"), 2);
        assert_eq!(found("fn f() { vec![1]; Vec::new(); format!(\"\"); println!(); panic!(); }"), 5);
        assert_eq!(found("struct S { m: Mutex<u8>, k: Box<dyn Any> }"), 1);
        assert_eq!(found("#[cfg(test)] mod tests { fn f() { x.unwrap(); } }"), 0);
        assert_eq!(found("fn new() { vec![1]; x.unwrap(); }"), 1);
        assert_eq!(complaints(packet_path, "engine/src/config.rs", "fn f() { x.unwrap(); }"), 0);
    }

    #[test]
    fn long_functions_and_files_are_found() {
        let body = |lines: usize| format!("fn f() {{{}}}\n", "\n".repeat(lines - 1));
        assert_eq!(long_functions(&Source::parse("x.rs", &body(LONGEST_FUNCTION))).len(), 0);
        assert_eq!(long_functions(&Source::parse("x.rs", &body(LONGEST_FUNCTION + 1)))[0].0, LONGEST_FUNCTION + 1);
        let c = |lines: usize| format!("struct a {{\n}};\n\nint f(void) {{{}}}\n", "\n".repeat(lines - 1));
        assert_eq!(long_c_functions("x.c", &c(LONGEST_FUNCTION)).len(), 0);
        assert_eq!(long_c_functions("x.c", &c(LONGEST_FUNCTION + 1))[0].0, LONGEST_FUNCTION + 1);
        assert!(long_file("x.rs", &"\n".repeat(LONGEST_FILE)).is_none());
        assert!(long_file("x.rs", &"\n".repeat(LONGEST_FILE + 1)).is_some());
    }

    #[test]
    fn a_test_ignored_without_a_reason_is_found() {
        assert_eq!(complaints(ignored, "x.rs", "#[test] #[ignore] fn f() {}"), 1);
        assert_eq!(complaints(ignored, "x.rs", "#[test] #[ignore = \"a reason\"] fn f() {}"), 0);
    }

    #[test]
    fn work_left_and_paths_of_a_machine_are_found() {
        assert_eq!(undone("x.md", concat!("a TO", "DO: write this")).len(), 1);
        assert_eq!(undone("x.rs", concat!("fn f() { todo", "!() }")).len(), 1);
        assert_eq!(undone("x.sh", concat!("cd /ho", "me/someone")).len(), 1);
        assert_eq!(undone("x.sh", concat!("cd $x/wo", "rk/y; METHODS; AUTODOC")).len(), 0);
    }

    #[test]
    fn an_unexplained_dependency_is_found() {
        let table = "[workspace.dependencies]\nown = { path = \"own\" }\n# What for.\na = \"1\"\nb = \"1\"\n\nc = \"1\"\n[x]\nd = 1";
        assert_eq!(unexplained_dependencies(table).len(), 1);
    }
}
