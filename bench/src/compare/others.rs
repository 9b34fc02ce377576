//! Servers that the command line names: another build of the engine, and any program.

use std::path::PathBuf;

use clap::Args;

use super::contestant::Contestant;
use super::programs::{Programs, SERVER_CORE};
use crate::error::{Context, Error, Result};
use crate::netns::{INTERFACE, Shape};
use crate::process::Readiness;

/// The name of the other build.
pub(crate) const BASELINE: &str = "baseline";

/// A program to compare with, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    name: String,
    /// With `{interface}`, `{address}`, `{cidr}` and `{port}` where these belong.
    words: Vec<String>,
}

#[derive(Args, Debug, Default)]
pub(crate) struct OtherArgs {
    /// Another build of `barewire`: it becomes the server `baseline`, which ratios and verdicts are to. Without
    /// --only, the two builds alone are compared
    #[arg(long, value_name = "BINARY")]
    baseline: Option<PathBuf>,
    /// Any server, as `name=command arguments`. It is started in the server's namespace on core 1, with {interface},
    /// {address}, {cidr} and {port} replaced, and has 10 seconds to answer
    #[arg(long, value_name = "NAME=CMD", value_parser = peer)]
    peer: Vec<Peer>,
    /// A --peer that has the address to itself, as an engine does: the kernel does not get it
    #[arg(long, value_name = "NAME", requires = "peer")]
    peer_owns_address: Vec<String>,
}

/// What the other build is asked to do.
pub(crate) struct Engine<'a> {
    pub description: &'a str,
    pub buffers: &'a str,
    pub ports: &'a [&'a str],
}

fn peer(text: &str) -> std::result::Result<Peer, String> {
    const FORM: &str = "a peer is `name=command arguments`, such as 'mine=/usr/bin/echo-server --port {port}'";
    let (name, command) = text.split_once('=').ok_or(FORM)?;
    let in_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(in_name) {
        return Err(format!("a name has letters, digits, `-`, `_` and `.`: {FORM}"));
    }
    match shlex::split(command) {
        Some(words) if !words.is_empty() => Ok(Peer { name: name.into(), words }),
        Some(_) => Err(FORM.into()),
        None => Err("the command has a quotation mark without its other".into()),
    }
}

impl OtherArgs {
    /// The other build, if one is named.
    ///
    /// # Errors
    /// There is no such file.
    pub(crate) fn baseline(&self, programs: &Programs, engine: &Engine<'_>) -> Result<Option<Contestant>> {
        let Some(binary) = &self.baseline else { return Ok(None) };
        let binary = binary
            .canonicalize()
            .context(|| format!("--baseline {}: it is the file of another `barewire` program", binary.display()))?;
        let command = programs.engine_at(&binary, "rings", engine.ports);
        let description = format!("{} ({})", engine.description, binary.display());
        Ok(Some(Contestant::new(BASELINE, &description, engine.buffers, command)))
    }

    /// The programs that are named.
    ///
    /// # Errors
    /// An owner of its address that is none of them.
    pub(crate) fn peers(&self, shape: Shape, readiness: Readiness) -> Result<Vec<Contestant>> {
        if let Some(wrong) = self.peer_owns_address.iter().find(|name| self.peer.iter().all(|p| p.name != **name)) {
            return Err(Error::usage(format!("--peer-owns-address {wrong}: no --peer has this name")));
        }
        let fill = |word: &String| {
            word.replace("{interface}", INTERFACE)
                .replace("{address}", &shape.family.server().to_string())
                .replace("{cidr}", &shape.family.server_cidr())
                .replace("{port}", "7")
        };
        let contestant = |peer: &Peer| {
            let command: Vec<String> = peer.words.iter().map(fill).collect();
            let description = format!("`{}`", command.join(" "));
            Contestant {
                kernel_owns_address: !self.peer_owns_address.contains(&peer.name),
                readiness,
                core: Some(SERVER_CORE),
                ..Contestant::new(&peer.name, &description, "its own", command)
            }
        };
        Ok(self.peer.iter().map(contestant).collect())
    }

    /// Whom to compare, where nobody says so.
    pub(crate) fn usual(&self) -> Vec<String> {
        if self.baseline.is_none() {
            return Vec::new();
        }
        let builds = [BASELINE, "barewire"].map(str::to_owned);
        builds.into_iter().chain(self.peer.iter().map(|peer| peer.name.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::{ETHERNET_MTU, Family};

    fn args(peers: &[&str], owners: &[&str]) -> OtherArgs {
        OtherArgs {
            baseline: None,
            peer: peers.iter().map(|text| peer(text).unwrap()).collect(),
            peer_owns_address: owners.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn the_words_of_a_peer_are_split_as_a_shell_does_and_filled_in() {
        let args = args(&["one='my server' -i {interface} --at={address}:{port}/{cidr}", "two=cmd"], &["two"]);
        let shape = Shape { family: Family::Ipv4, mtu: ETHERNET_MTU };
        let peers = args.peers(shape, Readiness::Line).unwrap();
        assert_eq!(peers[0].command, ["my server", "-i", "bw0", "--at=10.77.0.2:7/10.77.0.2/24"]);
        assert_eq!(peers.iter().map(|peer| peer.kernel_owns_address).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_peer_without_name_or_command_and_an_owner_that_is_none_are_refused() {
        for wrong in ["cmd", "=cmd", "a b=cmd", "a=", "a='cmd"] {
            assert!(peer(wrong).is_err(), "{wrong}");
        }
        let shape = Shape { family: Family::Ipv4, mtu: ETHERNET_MTU };
        assert!(args(&["one=cmd"], &["two"]).peers(shape, Readiness::Line).is_err());
    }
}
