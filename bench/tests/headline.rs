//! The figures of the README, measured for a moment. Needs root and the programs that are compared.

use std::process::Command;

use serde_json::Value;

#[test]
fn the_headline_has_every_figure_of_every_server_in_one_result() {
    let file = std::env::temp_dir().join(format!("bw-bt{}-headline.json", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_barewire-bench"))
        .args(["headline", "--rounds", "1", "--seconds", "0.05", "--json", file.to_str().unwrap()])
        .output()
        .unwrap();
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(document["workload"], "headline");
    let udp = ["64B-peak", "64B-loss-free", "64B-p50"];
    let long = ["1514B-peak", "1514B-loss-free", "1514B-p50"];
    let tcp = ["rr-1", "rr-1-p50", "rr-64", "rr-1000", "crr-1", "crr-16", "send", "receive"];
    let expected = [
        ("barewire", [&udp[..], &long, &tcp].concat()),
        ("kernel-epoll", [&udp[..], &long, &tcp].concat()),
        ("bare-af-xdp", udp.to_vec()),
        ("smoltcp", tcp.to_vec()),
    ];
    for (name, figures) in expected {
        let servers = document["servers"].as_array().unwrap();
        let server =
            servers.iter().find(|server| server["name"] == name).unwrap_or_else(|| panic!("no {name}: {text}"));
        let found = server["rounds"][0]["figures"].as_object().unwrap();
        let mut names: Vec<&str> = found.keys().map(String::as_str).collect();
        let mut figures = figures;
        names.sort_unstable();
        figures.sort_unstable();
        assert_eq!(names, figures, "{name}");
        assert_eq!(server["baseline"], name == "kernel-epoll");
    }
    // Each part can be run by itself, by the command that stands before it.
    assert_eq!(text.matches("\n$ barewire-bench compare ").count(), 3, "{text}");
}
