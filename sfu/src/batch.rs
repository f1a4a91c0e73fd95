//! What leaves and enters a shard: sendmmsg, recvmmsg.
