//! bench/results/SCHEMA.md against what real runs write: every field of the one is in the other. Needs root.

#[allow(dead_code, reason = "each test program uses another part of it")]
mod net;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use self::net::Net;

/// Fields and what is told of each.
fn documented() -> Vec<(String, [String; 2])> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/SCHEMA.md");
    let text = std::fs::read_to_string(file).unwrap();
    let rows = text.lines().filter_map(|line| {
        let [field, kind, meaning] =
            line.strip_prefix("| `")?.trim_end_matches('|').splitn(3, '|').collect::<Vec<_>>()[..]
        else {
            return None;
        };
        Some((field.trim().trim_end_matches('`').to_owned(), [kind, meaning].map(|cell| cell.trim().to_owned())))
    });
    rows.collect()
}

/// Maps whose names are free, and how deep.
const FREE: [(&str, usize); 2] = [("servers[].rounds[].figures", 1), ("servers[].rounds[].losses", 2)];

/// What a document has: fields with a value, fields that are null, and maps that are empty.
#[derive(Default)]
struct Found {
    values: BTreeSet<String>,
    nulls: BTreeSet<String>,
    empty: BTreeSet<String>,
}

impl Found {
    fn walk(&mut self, value: &Value, path: &str, free: usize) {
        match value {
            Value::Object(map) => {
                if map.is_empty() {
                    self.empty.insert(path.to_owned());
                }
                for (name, value) in map {
                    let name = if free > 0 { "*" } else { name };
                    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                    let begins = FREE.iter().find(|(map, _)| *map == path).map(|(_, depth)| *depth);
                    self.walk(value, &path, begins.unwrap_or(free.saturating_sub(1)));
                }
            }
            Value::Array(list) => list.iter().for_each(|value| self.walk(value, &format!("{path}[]"), 0)),
            Value::Null => {
                self.nulls.insert(path.to_owned());
            }
            _ => {
                self.values.insert(path.to_owned());
            }
        }
    }

    /// Whether a documented field was seen, or could not be, because a map of free names had none.
    fn has(&self, field: &str) -> bool {
        let in_empty = |map: &String| field.strip_prefix(map.as_str()).is_some_and(|rest| rest.starts_with(".*"));
        self.values.contains(field) || self.nulls.contains(field) || self.empty.iter().any(in_empty)
    }
}

#[test]
fn every_field_is_documented_and_every_documented_field_is_written() {
    let net = Net::new("schema");
    let _udp = net.serve("kernel-epoll");
    let _tcp = net.serve("tcp-epoll");
    let udp = ["udp", "--interface", "bw0", "--target", "10.77.0.2:7", "--sender", "kernel", "--duration", "0.3"];
    let mut found = Found::default();
    for args in [
        [&udp[..], &["--rate", "1000", "--arrivals", "poisson"]].concat(),
        [&udp[..], &["--rate", "1000", "--arrivals", "burst"]].concat(),
        [&udp[..], &["--closed-loop", "--size", "imix"]].concat(),
        vec!["tcp-rr", "10.77.0.2:7", "--duration", "0.3", "--warmup", "0.1"],
    ] {
        found.walk(&net.measure(&args), "", 0);
    }
    let documented = documented();
    let fields: BTreeSet<&str> = documented.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields.len(), documented.len(), "a field is documented twice");
    for (field, told) in &documented {
        assert!(told.iter().all(|cell| !cell.is_empty()), "{field} is not told");
    }
    let unknown: Vec<_> = found.values.iter().filter(|field| !fields.contains(field.as_str())).collect();
    assert!(unknown.is_empty(), "written and not in bench/results/SCHEMA.md: {unknown:?}");
    let null = |field: &&String| {
        // What is null may be a whole object.
        let inside = format!("{field}.");
        !fields.contains(field.as_str()) && !fields.iter().any(|known| known.starts_with(&inside))
    };
    let unknown: Vec<_> = found.nulls.iter().filter(null).collect();
    assert!(unknown.is_empty(), "written as null and not in bench/results/SCHEMA.md: {unknown:?}");
    let missing: Vec<_> = fields.iter().filter(|field| !found.has(field)).collect();
    assert!(missing.is_empty(), "in bench/results/SCHEMA.md and not written: {missing:?}");
}

#[test]
fn a_command_that_measures_writes_its_page_too() {
    let net = Net::new("page");
    let _tcp = net.serve("tcp-epoll");
    let file = std::env::temp_dir().join(format!("{}.html", net.client));
    let args = ["tcp-rr", "10.77.0.2:7", "--duration", "0.5", "--warmup", "0.1", "--html", file.to_str().unwrap()];
    net.measure(&args);
    let page = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    for told in ["<title>barewire-bench: tcp-rr</title>", "rate, k/s", "percentile, %", "throughput, ", "10.77.0.2:7"] {
        assert!(page.contains(told), "the page does not tell {told}");
    }
}
