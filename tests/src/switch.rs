//! A switch with two ports: a trunk, where the frames of one VLAN are tagged, and one where they are not.
//!
//! It stands where a kernel with VLAN interfaces could, which not every kernel has; and what it sends has its tags in
//! the frame, as frames on a wire have, not beside it as between virtual interfaces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::fixtures::tagged;
use crate::netns::PacketSocket;

/// How long it sleeps at most before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(1);
/// Of the tag control information, the id of the VLAN.
const ID: u16 = 0x0fff;

/// The switch, worked by two threads. It ends on drop.
#[derive(Debug)]
pub struct Switch {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Switch {
    /// Joins the interfaces of two sockets. Frames of the first are of the VLAN if they have `tags` (EtherType and
    /// id), and no others reach the second; those of the second get these tags.
    #[must_use]
    pub fn start(sockets: [PacketSocket; 2], tags: &[(u16, u16)]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let sockets = Arc::new(sockets);
        sockets.iter().for_each(PacketSocket::tell_tags);
        let threads = [0, 1].map(|from| {
            let (sockets, end, tags) = (Arc::clone(&sockets), Arc::clone(&end), tags.to_vec());
            thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    let frame = sockets[from].receive_tagged(LOOK);
                    let frame = frame.and_then(|frame| match from {
                        0 => untagged(&frame, &tags),
                        _ => Some(tagged(&frame, &tags)),
                    });
                    if let Some(frame) = frame {
                        sockets[1 - from].send(&frame);
                    }
                }
            })
        });
        Self { end, threads: threads.into() }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A test that has failed says more than a switch that has.
            assert!(thread.join().is_ok() || thread::panicking(), "the switch has failed");
        }
    }
}

/// `frame` without its tags, if they are these, with whatever priority.
fn untagged(frame: &[u8], tags: &[(u16, u16)]) -> Option<Vec<u8>> {
    let (addresses, mut rest) = frame.split_at_checked(12)?;
    for (kind, id) in tags {
        let ([kind_high, kind_low, high, low], behind) = rest.split_first_chunk()?;
        let has = (u16::from_be_bytes([*kind_high, *kind_low]), u16::from_be_bytes([*high, *low]) & ID);
        if has != (*kind, *id) {
            return None;
        }
        rest = behind;
    }
    Some([addresses, rest].concat())
}
