//! A client over UDP of a kernel's.

use std::io;
use std::net::{ToSocketAddrs, UdpSocket};
use std::ops::Deref;

/// A UDP socket that goes on waiting when its process was stopped and goes on, or was frozen by whoever keeps its container.
///
/// Linux ends a `recv` with a time-out with `EINTR` then, without any signal handler (`man 7 signal`, "Interruption of
/// system calls and library functions by stop signals"), and the standard library hands that on.
#[derive(Debug)]
pub struct Client(UdpSocket);

impl Client {
    /// As [`UdpSocket::bind`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        UdpSocket::bind(address).map(Self)
    }

    /// As [`UdpSocket::recv`]. The time-out starts anew after an interruption.
    ///
    /// # Errors
    /// What the kernel says, but for interruptions.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// All that need not wait.
impl Deref for Client {
    type Target = UdpSocket;

    fn deref(&self) -> &UdpSocket {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use super::*;
    use crate::lab::PATIENCE;

    #[test]
    fn a_process_that_was_stopped_goes_on_waiting_for_its_datagram() {
        let client = Client::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let stop = "sleep 0.3; kill -s STOP $0; sleep 0.1; kill -s CONT $0; sleep 0.1";
        let mut shell = Command::new("sh").args(["-c", stop, &std::process::id().to_string()]).spawn().unwrap();
        let received = thread::scope(|scope| {
            scope.spawn(|| {
                assert!(shell.wait().unwrap().success());
                let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
                sender.send_to(b"at last", client.local_addr().unwrap()).unwrap();
            });
            let mut buffer = [0; 16];
            client.recv(&mut buffer).map(|len| buffer[..len].to_vec())
        });
        assert_eq!(received.unwrap(), b"at last");
    }
}
