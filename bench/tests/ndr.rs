//! The search for the highest rate without loss, in namespaces of its own and in the test's. Needs root.

#[allow(dead_code, reason = "each test program uses another part of it")]
mod net;

use std::process::Command;

use serde_json::Value;

use self::net::{BENCH, Net, bench, take, temporary};

/// Trials of one name, with what each was asked for, sent and got back.
fn trials<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    let all = report["servers"][0]["rounds"][0]["trials"].as_array().expect("trials");
    all.iter().filter(|trial| trial["measure"] == name).collect()
}

/// The rate of a size is one that stood as often as asked, or there is none.
fn is_proved(report: &Value, name: &str, size: f64, (repeats, loss): (usize, f64)) {
    let figures = &report["servers"][0]["rounds"][0]["figures"];
    let figure = &figures[format!("ndr-{name}")];
    assert_eq!((&figure["unit"], &figure["better"]), (&"Mpps".into(), &"higher".into()), "{figures}");
    assert!(!trials(report, &format!("ndr-{name}")).is_empty(), "{report}");
    let Some(mpps) = figure["value"].as_f64() else { return };
    let wire = figures[format!("ndr-{name}-wire")]["value"].as_f64().unwrap();
    assert!((wire / (mpps * (size + 20.0) * 8e-3) - 1.0).abs() < 1e-9, "{wire} Gb/s, {mpps} Mpps");
    let repeated = trials(report, &format!("ndr-{name}-repeat"));
    let stood =
        repeated.iter().filter(|trial| (trial["asked_per_s"].as_f64().unwrap() / mpps / 1e6 - 1.0).abs() < 1e-9);
    let lossless = stood.filter(|trial| {
        let [sent, lost] = ["sent", "lost"].map(|name| trial[name].as_f64().unwrap());
        lost <= loss * sent && trial["limited"] == false
    });
    assert_eq!(lossless.count(), repeats, "{repeated:?}");
}

#[test]
fn each_size_has_a_rate_that_stood_or_none_in_namespaces_of_its_own() {
    let file = temporary("ndr");
    let args = ["ndr", "--server", "kernel-spin", "--sizes", "64,1518", "--seconds", "0.05", "--repeats", "2"];
    let child = Command::new(BENCH)
        .args(args)
        .args(["--precision", "10", "--loss", "2", "--json", file.to_str().unwrap()])
        .output()
        .unwrap();
    let (text, error) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success(), "{error}");
    let report = take(&file);
    assert_eq!((&report["workload"], &report["servers"][0]["name"]), (&"ndr".into(), &"kernel-spin".into()));
    // Headers and a stamp take 62 bytes, the frame check sequence 4.
    for (name, size) in [("66", 66.0), ("1518", 1518.0)] {
        is_proved(&report, name, size, (2, 0.02));
    }
    assert!(text.contains("RFC 2544") && text.contains("1518"), "{text}");
}

#[test]
fn a_server_that_is_there_is_searched_too() {
    let net = Net::new("ndr");
    let _server = net.serve("kernel-spin");
    let target = ["ndr", "--interface", "bw0", "--target", "10.77.0.2:7"];
    let options = ["--seconds", "0.05", "--repeats", "1", "--precision", "20", "--loss", "5"];
    for (sizes, name, size) in [
        (["--sizes", "128"], "128", 128.0),
        (["--mix", "imix"], "mix", f64::from(7 * 66 + 4 * 594 + 1518) / 12.0),
        (["--mix", "100:2,1518:1"], "mix", 1718.0 / 3.0),
    ] {
        let report = net.measure(&[&target[..], &options, &sizes].concat());
        assert_eq!(report["network"]["target"], "10.77.0.2:7");
        is_proved(&report, name, size, (1, 0.05));
    }
}

#[test]
fn each_bad_argument_says_what_to_do_and_exits_with_2() {
    let cases: [(&[&str], &str); 11] = [
        (&["--mix", "64"], "--sizes"),
        (&["--mix", "imix", "--sizes", "64"], "cannot be used with"),
        (&["--mix", "64:1,1519:1"], "1518 are the most"),
        (&["--sizes", "63"], "64"),
        (&["--sizes", "1519"], "1518 at most"),
        (&["--sizes", "9000", "--mtu", "9000", "--server", "xdp-tx"], "longer than a page"),
        (&["--loss", "51"], "0 to 50"),
        (&["--precision", "0"], "0.1 to 20"),
        (&["--seconds", "0"], "60"),
        (&["--interface", "bw0"], "--target"),
        (&["--server", "pigeon"], "kernel-spin"),
    ];
    for (args, hint) in cases {
        let output = bench(&[&["ndr"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(hint), "{args:?}: {error}");
    }
    let output = bench(&["ndr", "--interface", "lo", "--target", "192.0.2.1:7"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code > 0), "{error}");
}
