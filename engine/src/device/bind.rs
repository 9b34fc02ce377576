//! The order in which ways of binding are tried, the same for both drivers.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::config::most_mtu;
use super::{BindMode, Granted, OpenError, SocketConfig};

/// How long a busy queue is asked for again: a socket that was just closed keeps its queue for 16 to 37 ms.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);
/// Time between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Binds by `attempt`, which asks for one way of moving packets.
///
/// `Auto` asks for zero-copy first, and for copy when that is refused with `EOPNOTSUPP` (most drivers) or
/// `EINVAL` (virtio). A busy queue is asked for again for a second.
pub(super) fn bind<T>(
    config: &SocketConfig,
    mut attempt: impl FnMut(Granted) -> Result<T, BindError>,
) -> Result<T, OpenError> {
    let mut try_mode = |mode| while_busy(|| attempt(mode));
    if config.mode != BindMode::Copy {
        let refused = match try_mode(Granted::ZeroCopy) {
            Err(BindError::Refused(source)) => source,
            other => return other.map_err(|error| error.named(config)),
        };
        if !matches!(refused.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) {
            return Err(OpenError::bind(config, refused));
        }
        if config.mode == BindMode::ZeroCopy {
            return Err(why_zero_copy_is_refused(config, refused, try_mode(Granted::Copy)));
        }
    }
    try_mode(Granted::Copy).map_err(|error| error.named(config))
}

/// `EINVAL` can mean that there is no such queue: then copy mode is refused in the same way.
fn why_zero_copy_is_refused<T>(config: &SocketConfig, zero_copy: io::Error, copy: Result<T, BindError>) -> OpenError {
    match copy {
        Err(BindError::Refused(source)) if source.raw_os_error() == Some(libc::EINVAL) => {
            OpenError::bind(config, source)
        }
        _ => {
            let (interface, queue, source) = (config.interface.clone(), config.queue, zero_copy);
            if config.multi_buffer {
                let most = most_mtu(config.chunk_size, true);
                OpenError::ZeroCopyMultiBufferRefused { interface, queue, most, source }
            } else {
                OpenError::ZeroCopyRefused { interface, queue, source }
            }
        }
    }
}

/// Why one attempt failed.
pub(super) enum BindError {
    /// The kernel refused the bind.
    Refused(io::Error),
    /// Something else went wrong, which no other mode helps against.
    Fatal(OpenError),
}

impl BindError {
    fn named(self, config: &SocketConfig) -> OpenError {
        match self {
            Self::Refused(source) => OpenError::bind(config, source),
            Self::Fatal(error) => error,
        }
    }

    fn is_busy(&self) -> bool {
        matches!(self, Self::Refused(source) if source.raw_os_error() == Some(libc::EBUSY))
    }
}

fn while_busy<T>(mut attempt: impl FnMut() -> Result<T, BindError>) -> Result<T, BindError> {
    let since = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.is_busy() && since.elapsed() < BUSY_PATIENCE => thread::sleep(BUSY_PAUSE),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Binds where zero-copy and copy are answered as given (0 is success), and lists what was asked for.
    fn asked(mode: BindMode, zero_copy: i32, copy: i32) -> (Result<Granted, OpenError>, Vec<Granted>) {
        let mut asked = Vec::new();
        let config = SocketConfig { mode, ..SocketConfig::new("bw0", 1, 3) };
        let result = bind(&config, |way| {
            asked.push(way);
            match if way == Granted::ZeroCopy { zero_copy } else { copy } {
                0 => Ok(way),
                errno => Err(BindError::Refused(io::Error::from_raw_os_error(errno))),
            }
        });
        (result, asked)
    }

    #[test]
    fn auto_takes_zero_copy_where_there_is_zero_copy() {
        let (result, asked) = asked(BindMode::Auto, 0, 0);
        assert_eq!((result.unwrap(), asked), (Granted::ZeroCopy, vec![Granted::ZeroCopy]));
    }

    #[test]
    fn auto_falls_back_on_both_ways_in_which_drivers_refuse() {
        for refusal in [libc::EOPNOTSUPP, libc::EINVAL] {
            let (result, asked) = asked(BindMode::Auto, refusal, 0);
            assert_eq!((result.unwrap(), asked), (Granted::Copy, vec![Granted::ZeroCopy, Granted::Copy]));
        }
    }

    #[test]
    fn copy_never_asks_for_zero_copy() {
        let (result, asked) = asked(BindMode::Copy, libc::EIO, 0);
        assert_eq!((result.unwrap(), asked), (Granted::Copy, vec![Granted::Copy]));
    }

    #[test]
    fn a_missing_queue_is_told_from_a_driver_without_zero_copy() {
        for mode in [BindMode::Auto, BindMode::ZeroCopy, BindMode::Copy] {
            let (result, _) = asked(mode, libc::EINVAL, libc::EINVAL);
            assert!(matches!(result, Err(OpenError::NoQueue { queue: 3, .. })), "{mode:?} {result:?}");
        }
        for refusal in [libc::EOPNOTSUPP, libc::EINVAL] {
            let (result, _) = asked(BindMode::ZeroCopy, refusal, 0);
            assert!(matches!(result, Err(OpenError::ZeroCopyRefused { .. })), "{result:?}");
        }
    }

    #[test]
    fn a_queue_that_becomes_free_is_taken() {
        let mut tries = 0;
        let config = SocketConfig { mode: BindMode::Copy, ..SocketConfig::new("bw0", 1, 0) };
        let result = bind(&config, |_| {
            tries += 1;
            let busy = || BindError::Refused(io::Error::from_raw_os_error(libc::EBUSY));
            if tries < 4 { Err(busy()) } else { Ok(tries) }
        });
        assert_eq!(result.unwrap(), 4);
    }

    #[test]
    fn every_refusal_has_its_own_message() {
        let messages: std::collections::BTreeSet<String> =
            [libc::EINVAL, libc::EBUSY, libc::ENODEV, libc::ENETDOWN, libc::EPERM, libc::EIO]
                .map(|errno| asked(BindMode::Copy, 0, errno).0.unwrap_err().to_string())
                .into();
        assert_eq!(messages.len(), 6, "{messages:#?}");
    }
}
