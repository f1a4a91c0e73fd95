//! What a shard counts for operators, besides the SFU's own [`Stats`](crate::Stats).

use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use sfu_core::ShardId;

use crate::{
    batch::{SendDrop, Sent},
    receive::Arrived,
};

/// Registered once per shard, so that counting costs an atomic addition per batch.
pub(crate) struct Meters {
    received: Counter,
    receive_calls: Counter,
    receive_unusable: Counter,
    receive_errors: Counter,
    sent: Counter,
    sent_bytes: Counter,
    send_calls: Counter,
    send_drops: [(SendDrop, Counter); 4],
    commands: Gauge,
    tap_drops: Counter,
    event_drops: Counter,
    event_backlog: Gauge,
    busy: Gauge,
    connections: Gauge,
    tcp_drops: Counter,
    relay_drops: Counter,
    hold: Gauge,
}

impl Meters {
    /// Registers the meters with the recorder that is installed.
    pub(crate) fn new(shard: ShardId) -> Self {
        describe();
        let shard = shard.0.to_string();
        let drops = |reason, word| {
            (
                reason,
                counter!("fanlight_send_drops_total", "shard" => shard.clone(), "reason" => word),
            )
        };
        Self {
            received: counter!("fanlight_datagrams_received_total", "shard" => shard.clone()),
            receive_calls: counter!("fanlight_receive_calls_total", "shard" => shard.clone()),
            receive_unusable: counter!("fanlight_receive_drops_total", "shard" => shard.clone(), "reason" => "unusable"),
            receive_errors: counter!("fanlight_receive_errors_total", "shard" => shard.clone()),
            sent: counter!("fanlight_datagrams_sent_total", "shard" => shard.clone()),
            sent_bytes: counter!("fanlight_datagram_bytes_sent_total", "shard" => shard.clone()),
            send_calls: counter!("fanlight_send_calls_total", "shard" => shard.clone()),
            send_drops: [
                drops(SendDrop::BufferFull, "buffer_full"),
                drops(SendDrop::Unreachable, "unreachable"),
                drops(SendDrop::Denied, "denied"),
                drops(SendDrop::Other, "other"),
            ],
            commands: gauge!("fanlight_command_queue_depth", "shard" => shard.clone()),
            tap_drops: counter!("fanlight_tap_drops_total", "shard" => shard.clone(), "reason" => "slow_reader"),
            event_drops: counter!("fanlight_event_drops_total", "shard" => shard.clone(), "reason" => "slow_control_plane"),
            event_backlog: gauge!("fanlight_event_backlog_depth", "shard" => shard.clone()),
            connections: gauge!("fanlight_tcp_connections", "shard" => shard.clone()),
            relay_drops: counter!("fanlight_relay_drops_total", "shard" => shard.clone(), "reason" => "shard_behind"),
            tcp_drops: counter!("fanlight_send_drops_total", "shard" => shard.clone(), "reason" => "connection_slow"),
            busy: gauge!("fanlight_shard_busy_ratio", "shard" => shard.clone()),
            hold: gauge!("fanlight_shard_hold_seconds", "shard" => shard.clone()),
        }
    }

    /// Counts one receive call.
    pub(crate) fn arrived(&self, arrived: Arrived) {
        self.receive_calls.increment(1);
        self.received.increment(arrived.datagrams as u64);
        if arrived.unusable > 0 {
            self.receive_unusable.increment(arrived.unusable as u64);
        }
    }

    /// Counts a receive call that failed.
    pub(crate) fn receive_failed(&self) {
        self.receive_errors.increment(1);
    }

    /// Counts one batch that was sent.
    pub(crate) fn sent(&self, sent: &Sent) {
        self.sent.increment(sent.datagrams);
        self.sent_bytes.increment(sent.bytes);
        self.send_calls.increment(sent.calls);
        for (reason, count) in &sent.drops {
            let known = self.send_drops.iter().find(|(known, _)| known == reason);
            if let Some((_, counter)) = known {
                counter.increment(*count);
            }
        }
    }

    /// Counts a packet that a tap's reader was too slow for.
    pub(crate) fn tap_dropped(&self) {
        self.tap_drops.increment(1);
    }

    /// Counts a data channel message that the control plane was too slow for.
    pub(crate) fn event_dropped(&self) {
        self.event_drops.increment(1);
    }

    /// Notes how much is waiting in the control plane's queues.
    #[expect(clippy::cast_precision_loss, reason = "depths are small numbers")]
    pub(crate) fn depths(&self, commands: usize, events: usize) {
        self.commands.set(commands as f64);
        self.event_backlog.set(events as f64);
    }

    /// Notes how many peers' connections there are.
    #[expect(clippy::cast_precision_loss, reason = "counts are small numbers")]
    pub(crate) fn connections(&self, count: usize) {
        self.connections.set(count as f64);
    }

    /// Counts datagrams that a connection was too slow for, or that came after its end.
    pub(crate) fn tcp_dropped(&self, count: u64) {
        if count > 0 {
            self.tcp_drops.increment(count);
        }
    }

    /// Counts a batch that another shard was too busy for.
    pub(crate) fn relay_dropped(&self) {
        self.relay_drops.increment(1);
    }

    /// Notes how busy the shard is, in thousandths, and how long it holds packets.
    pub(crate) fn busy(&self, busy: u32, hold: Duration) {
        self.busy.set(f64::from(busy) / 1000.0);
        self.hold.set(hold.as_secs_f64());
    }
}

fn describe() {
    describe_counter!("fanlight_datagrams_received_total", "Datagrams received");
    describe_counter!(
        "fanlight_receive_calls_total",
        "System calls that received datagrams"
    );
    describe_counter!(
        "fanlight_receive_drops_total",
        "Received datagrams that were not looked at"
    );
    describe_counter!(
        "fanlight_receive_errors_total",
        "System calls that failed to receive"
    );
    describe_counter!(
        "fanlight_datagrams_sent_total",
        "Datagrams given to the kernel"
    );
    describe_counter!(
        "fanlight_datagram_bytes_sent_total",
        "Bytes of the datagrams given to the kernel"
    );
    describe_counter!(
        "fanlight_send_calls_total",
        "System calls that sent datagrams"
    );
    describe_counter!(
        "fanlight_send_drops_total",
        "Datagrams that could not be sent"
    );
    describe_gauge!(
        "fanlight_command_queue_depth",
        "Commands waiting for the media thread"
    );
    describe_counter!(
        "fanlight_tap_drops_total",
        "Packets an output was too slow for"
    );
    describe_counter!(
        "fanlight_event_drops_total",
        "Data channel messages the control plane was too slow for"
    );
    describe_gauge!(
        "fanlight_event_backlog_depth",
        "Events waiting behind the full event channel"
    );
    describe_gauge!(
        "fanlight_tcp_connections",
        "Connections of peers whose networks let no UDP through"
    );
    describe_counter!(
        "fanlight_relay_drops_total",
        "Batches of packets that another shard was too busy for"
    );
    describe_gauge!(
        "fanlight_shard_busy_ratio",
        "Share of one core that the media thread uses"
    );
    describe_gauge!(
        "fanlight_shard_hold_seconds",
        "How long packets may wait for others to the same viewer"
    );
}
