//! A connection that ends in bounded time, whatever its line does.
//!
//! A connection that is closed first sends what is still to be sent, and on a line that is down that takes until the
//! system gives up: a quarter of an hour. Until then it counts as one of the few that may be there with a peer, and
//! two of them kept a peer whose line was back from being let in. It refuses to know why a connection ends.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::time::{Sleep, sleep};

/// A muxer that is closed after a while, come what may.
#[derive(Debug)]
pub(super) struct Bounded<M> {
    muxer: M,
    patience: Duration,
    closing: Option<Pin<Box<Sleep>>>,
}

impl<M> Bounded<M> {
    /// `patience` is how long the connection may take to say that it ends.
    pub(super) fn new(muxer: M, patience: Duration) -> Self {
        Self { muxer, patience, closing: None }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Bounded<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.muxer).poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.muxer).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.muxer).poll_close(cx) {
            return Poll::Ready(closed);
        }
        let patience = self.patience;
        let closing = self.closing.get_or_insert_with(|| Box::pin(sleep(patience)));
        // Whoever closes a connection drops it next, and so lets go of its socket.
        closing.as_mut().poll(cx).map(Ok)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.muxer).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncReadExt;
    use libp2p::{
        core::{muxing::StreamMuxerExt, upgrade::OutboundConnectionUpgrade},
        yamux,
    };
    use tokio::io::DuplexStream;
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;

    /// A connection over a line that holds one byte, and the other end of that line.
    async fn connection(patience: Duration) -> (Bounded<yamux::Muxer<Compat<DuplexStream>>>, Compat<DuplexStream>) {
        let (here, there) = tokio::io::duplex(1);
        let muxer = yamux::Config::default().upgrade_outbound(here.compat(), "/yamux/1.0.0").await.unwrap();
        (Bounded::new(muxer, patience), there.compat())
    }

    #[tokio::test]
    async fn a_connection_whose_line_takes_nothing_any_more_is_let_go_of() {
        let (connection, _dead) = connection(Duration::from_millis(10)).await;
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_whose_line_stands_says_that_it_ends() {
        let (connection, mut alive) = connection(Duration::from_secs(3_600)).await;
        let mut said = Vec::new();
        let (closed, read) = tokio::join!(connection.close(), alive.read_to_end(&mut said));
        closed.unwrap();
        read.unwrap();
        // A frame of yamux that says goodbye: version 0, kind 3.
        assert_eq!(said.get(..2), Some(&[0, 3][..]));
    }
}
