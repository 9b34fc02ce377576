//! What is compared: a server, how it is started, and what it needs.

use super::programs::Programs;
use crate::error::{Error, Result};
use crate::netns::{Family, Shape};
use crate::process::Readiness;
use crate::result::{Contender, Round};
use crate::udp::frame;
use crate::udp::receiver::Hook;

/// A server, one row of a comparison.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    /// Its name in tables, in results and for `--only`.
    pub name: String,
    /// What it is, for the table's footnotes.
    pub description: String,
    /// Its buffers, rings and batches, told so that they can be held against those of the others.
    pub buffers: String,
    /// The command that starts it in the server's namespace.
    pub command: Vec<String>,
    /// A program that has to lie beside this one, and the package that it is built from.
    pub program: Option<(&'static str, &'static str)>,
    /// How it tells that it is ready.
    pub readiness: Readiness,
    /// The core that it is started on, if it does not take one itself.
    pub core: Option<usize>,
    /// Whether it is compared where nobody says whom.
    pub usual: bool,
    /// Whether the server's kernel has to have the address, or the server takes it all for itself.
    pub kernel_owns_address: bool,
    /// The VLAN that its requests are on.
    pub vlan: Option<u16>,
    /// Where replies to datagrams are received: see `udp/receiver.rs`.
    pub hook: Hook,
    pub knows_ipv6: bool,
    /// Whether it can serve frames that are longer than a page.
    pub knows_long_frames: bool,
}

impl Contestant {
    /// A server that knows everything, has the address to itself, and says `ready`.
    pub(crate) fn new(name: &str, description: &str, buffers: &str, command: Vec<String>) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            buffers: buffers.into(),
            command,
            program: None,
            readiness: Readiness::Line,
            core: None,
            usual: true,
            kernel_owns_address: false,
            vlan: None,
            hook: Hook::Tc,
            knows_ipv6: true,
            knows_long_frames: true,
        }
    }

    /// What it showed, as it is written.
    pub(crate) fn contender(&self, rounds: Vec<Round>) -> Contender {
        let (name, description) = (self.name.clone(), self.description.clone());
        Contender { name, description, baseline: false, rounds }
    }

    /// Why it cannot be measured over such a network with such frames, if it cannot.
    fn lacks(&self, shape: Shape, frame_len: usize) -> Option<String> {
        let name = &self.name;
        if shape.family == Family::Ipv6 && !self.knows_ipv6 {
            return Some(format!("`{name}` is measured over IPv4 only: leave it out with --ipv6"));
        }
        if frame_len > frame::MAX_LIVE_LEN && !self.knows_long_frames {
            return Some(format!("`{name}` knows no frames longer than a page: leave it out"));
        }
        None
    }
}

/// Those of `known` that are asked for by name, in the table's order; without names, the usual ones.
///
/// # Errors
/// A name that none has, or a server that cannot be measured so or was not built.
pub(crate) fn choose(
    known: Vec<Contestant>,
    only: &[String],
    programs: &Programs,
    shape: Shape,
    frame_len: usize,
) -> Result<Vec<Contestant>> {
    for (at, one) in known.iter().enumerate() {
        if known[..at].iter().any(|other| other.name == one.name) {
            return Err(Error::usage(format!("two servers are called `{}`: give --peer another name", one.name)));
        }
    }
    if let Some(wrong) = only.iter().find(|name| known.iter().all(|one| one.name != **name)) {
        let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
        return Err(Error::usage(format!("--only: there is no server `{wrong}`, there are {}", names.join(", "))));
    }
    let mut chosen = Vec::new();
    for one in known {
        let named = only.contains(&one.name);
        match one.lacks(shape, frame_len) {
            Some(why) if named => return Err(Error::usage(why)),
            None if named || only.is_empty() && one.usual => chosen.push(one),
            _ => {}
        }
    }
    for (name, package) in chosen.iter().filter_map(|one| one.program) {
        programs.check(name, package)?;
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::ETHERNET_MTU;

    fn choice(only: &[&str], family: Family) -> Result<Vec<String>> {
        let new = |name| Contestant::new(name, "", "", Vec::new());
        let known = vec![
            new("first"),
            Contestant { knows_ipv6: false, ..new("old") },
            Contestant { usual: false, ..new("odd") },
            new("last"),
        ];
        let shape = Shape { family, mtu: ETHERNET_MTU };
        let only: Vec<String> = only.iter().map(ToString::to_string).collect();
        let chosen = choose(known, &only, &Programs::find(shape)?, shape, 64)?;
        Ok(chosen.into_iter().map(|one| one.name).collect())
    }

    #[test]
    fn without_names_the_usual_ones_are_compared_as_far_as_they_can() {
        assert_eq!(choice(&[], Family::Ipv4).unwrap(), ["first", "old", "last"]);
        assert_eq!(choice(&[], Family::Ipv6).unwrap(), ["first", "last"]);
    }

    #[test]
    fn those_asked_for_come_in_the_order_of_the_table_or_it_is_said_why_not() {
        assert_eq!(choice(&["last", "odd"], Family::Ipv4).unwrap(), ["odd", "last"]);
        assert!(choice(&["last", "none"], Family::Ipv4).is_err());
        assert!(choice(&["old"], Family::Ipv6).unwrap_err().to_string().contains("IPv4 only"));
        assert!(choice(&["none"], Family::Ipv4).unwrap_err().to_string().contains("first, old, odd, last"));
    }
}
