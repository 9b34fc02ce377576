//! What our application does in a script, and how connections begin.

use super::seg::{Ts, pattern, seg, syn_ack};
use super::{OUR, PEER, Script, Seg};
use crate::base::Instant;
use crate::transport::tcp::{ConnectFailure, Tcp};
use crate::wire::tcp::Flags;

impl Script {
    /// The peer opens a connection with this SYN at 0 ms, and acknowledges ours at 10 ms.
    #[track_caller]
    pub(super) fn accept(&mut self, syn: Seg) -> &mut Self {
        let mut answer = answer_to(&syn);
        let buffer = self.tcp.shared.config.receive_buffer;
        answer.window_scale = syn.window_scale.map(|_| crate::transport::tcp::window::shift_for(buffer));
        let ack = seg(1, 1).port(syn.port);
        self.timestamps = syn.timestamps != Ts::Usual;
        self.peer_sends(syn).expect(answer);
        self.at(10).peer_sends(ack).expect_nothing();
        self.told();
        self
    }

    /// We open a connection at 0 ms, which the peer accepts with this SYN and ACK at 10 ms.
    #[track_caller]
    pub(super) fn call(&mut self, syn_ack: Seg) -> &mut Self {
        self.app_connects().unwrap();
        self.expect(our_syn());
        self.at(10);
        self.timestamps = syn_ack.timestamps != Ts::Usual;
        self.peer_sends(syn_ack).expect(seg(1, 1));
        self.told();
        self
    }

    /// The application queues so many bytes, of which all have to be taken.
    #[track_caller]
    pub(super) fn app_sends(&mut self, len: u32) -> &mut Self {
        let sent = self.app_offers(len);
        if sent != len {
            self.fail(&format!("{sent} bytes of {len} were queued"));
        }
        self
    }

    /// The application queues as many of so many bytes as are taken.
    pub(super) fn app_offers(&mut self, len: u32) -> u32 {
        let bytes: Vec<u8> = (1 + self.queued..).take(len as usize).map(pattern).collect();
        let sent = self.tcp.send(self.index, &bytes, &mut self.umem) as u32;
        self.note("-", &format!("application sends {sent} of {len}"));
        self.queued += sent;
        self.done();
        sent
    }

    /// The application queues so many bytes and calls them urgent.
    pub(super) fn app_sends_urgently(&mut self, len: u32) -> &mut Self {
        let bytes: Vec<u8> = (1 + self.queued..).take(len as usize).map(pattern).collect();
        let sent = self.tcp.send_urgent(self.index, &bytes, &mut self.umem) as u32;
        assert_eq!(sent, len);
        self.note("-", &format!("application sends {len} urgently"));
        self.queued += sent;
        self.done()
    }

    /// The application takes so many bytes, which have to be there and to be right.
    #[track_caller]
    pub(super) fn app_takes(&mut self, len: u32) -> &mut Self {
        let mut left = len as usize;
        while left > 0 {
            let received = self.tcp.received(self.index, &self.umem);
            let part = received.len().min(left);
            let is_right = (1 + self.taken..).zip(&received[..part]).all(|(at, &byte)| byte == pattern(at));
            if part == 0 || !is_right {
                self.fail(&format!("{left} of {len} bytes are missing or wrong"));
            }
            assert_eq!(self.tcp.consume(self.index, part, &mut self.umem), part);
            self.taken += part as u32;
            left -= part;
        }
        self.note("-", &format!("application takes {len}"));
        self.done();
        self
    }

    /// The application sends back as many of so many bytes as are taken.
    pub(super) fn app_returns(&mut self, len: u32) -> u32 {
        let sent = self.tcp.send_back(self.index, len as usize, &mut self.umem) as u32;
        self.note("-", &format!("application sends {sent} of {len} back"));
        (self.queued, self.taken) = (self.queued + sent, self.taken + sent);
        self.done();
        sent
    }

    /// The application has no more to send.
    pub(super) fn app_finishes(&mut self) -> &mut Self {
        self.note("-", &"application finishes");
        self.tcp.finish(self.index, &mut self.umem);
        self.done()
    }

    /// The application gives the connection up.
    pub(super) fn app_aborts(&mut self) -> &mut Self {
        self.note("-", &"application aborts");
        self.tcp.abort(self.index);
        self.done()
    }

    /// The application sets something.
    pub(super) fn app_sets(&mut self, set: impl FnOnce(&mut Tcp, u32, Instant)) -> &mut Self {
        set(&mut self.tcp, self.index, self.now);
        self.done()
    }

    /// We open a connection: the SYN comes out.
    pub(super) fn app_connects(&mut self) -> Result<(), ConnectFailure> {
        self.note("-", &"application connects");
        self.index = self.tcp.connect(OUR.0, PEER, |_| true, self.now, &mut self.umem)?;
        self.done();
        Ok(())
    }

    fn done(&mut self) -> &mut Self {
        self.tcp.settle(self.index);
        self.flush();
        self
    }
}

/// Our SYN when we open a connection.
pub(super) fn our_syn() -> Seg {
    super::syn().mss(1460).scale(0).sack_ok().first_ts(0)
}

/// Our answer to a SYN: with those options that it had, and the MSS in any case.
pub(super) fn answer_to(syn: &Seg) -> Seg {
    let mut answer = syn_ack().mss(1460).port(syn.port);
    answer.window_scale = syn.window_scale.map(|_| 0);
    answer.sack_permitted = syn.sack_permitted;
    if syn.flags.contains(Flags::ECE | Flags::CWR) {
        answer = answer.with(Flags::ECE);
    }
    answer
}
