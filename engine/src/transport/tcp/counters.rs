//! What TCP counts. Every counter means one thing and only ever grows.

macro_rules! counters {
    ($($(#[doc = $text:literal])+ $name:ident,)+) => {
        /// Events of all connections of one stack, in segments or connections.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[doc = $text])+ pub $name: u64),+ }

        impl Counters {
            /// Every counter with its name and its meaning.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($text),+), self.$name)),+].into_iter()
            }
        }
    };
}

counters! {
    /// Connections that were established, opened by either side.
    opened,
    /// Connections opened by us, established or not.
    connects,
    /// Connections that ended with FIN both ways.
    finished,
    /// Connections that a reset of the peer ended.
    reset,
    /// Connections that our application aborted.
    aborted,
    /// Connections that were given up because the peer did not answer.
    timed_out,
    /// Connections that were given up because others waited for the memory which they held without getting rid of any.
    given_up_for_others,
    /// Connection requests received on ports that somebody listens on.
    syns_received,
    /// Connection requests answered by a SYN cookie, because there was no room for another handshake.
    cookies_sent,
    /// Connections that a SYN cookie opened.
    cookies_accepted,
    /// Answers to connection requests sent again.
    syn_acks_retransmitted,
    /// Handshakes given up.
    handshakes_timed_out,
    /// Handshakes forgotten, because a connection that was established needed the place.
    handshakes_evicted,
    /// Connections that left TIME-WAIT early, because there was no room for a newer one.
    time_wait_evicted,
    /// Connections opened again out of TIME-WAIT (RFC 6191).
    time_wait_reopened,
    /// Segments with text or FIN sent, first times.
    sent,
    /// Segments sent again.
    retransmitted,
    /// Retransmission timeouts.
    timeouts,
    /// Tail loss probes (RFC 8985).
    loss_probes,
    /// Recoveries from loss without a timeout.
    recoveries,
    /// Recoveries that turned out to have been needless, and were undone.
    needless_recoveries,
    /// Segments that the peer reported to have arrived twice (D-SACK).
    duplicates_reported,
    /// Probes of a closed window.
    window_probes,
    /// Keep-alives sent.
    keep_alives,
    /// Segments sent that only acknowledge.
    acknowledgments,
    /// Acknowledgments that waited as long as they may for something to travel with.
    delayed_acknowledgments,
    /// Segments received behind a gap, and held.
    out_of_order,
    /// Held segments dropped again, because memory was short.
    out_of_order_dropped,
    /// Segments with text, or behind a gap, dropped because memory was short.
    out_of_memory,
    /// Resets received that ended a connection or a handshake.
    resets_received,
    /// Resets sent.
    resets_sent,
    /// Segments challenged (RFC 5961).
    challenges,
    /// Answers to unacceptable segments held back by their limit.
    challenges_suppressed,
    /// ICMP errors about segments under way.
    icmp_taken,
    /// ICMP errors that quote no connection, or nothing that is under way.
    icmp_ignored,
    /// Times that a router was believed to say that a path takes shorter packets only.
    pmtu_lowered,
    /// Times that a router said so of a path by which longer ones had arrived, and was not believed at once.
    pmtu_doubted,
    /// Times that a path was suspected of swallowing long packets.
    black_holes_suspected,
    /// ECN marks answered by a smaller congestion window.
    ecn_reductions,
}
