//! A line on which every byte is under way for a while, so that round trips can be counted by the clock.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::Instant,
};

const READ_BYTES: usize = 64 << 10;

/// Where to dial instead of the node itself.
#[derive(Debug)]
pub(crate) struct Line {
    /// The address of this end.
    pub(crate) address: SocketAddr,
}

impl Line {
    /// Opens a line to `target` on which bytes take `one_way`.
    pub(crate) async fn open(target: SocketAddr, one_way: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // Whoever dials sees a line that ends, and dials again.
                let Ok(far) = TcpStream::connect(target).await else { continue };
                // Else the system would hold small pieces back, and their delay be measured too.
                if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
                    continue;
                }
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, one_way));
                tokio::spawn(carry(far_in, near_out, one_way));
            }
        });
        Ok(Self { address })
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, one_way: Duration) {
    let (put, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, bytes)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    loop {
        let mut bytes = vec![0; READ_BYTES];
        let Ok(read) = from.read(&mut bytes).await else { return };
        bytes.truncate(read);
        if read == 0 || put.send((Instant::now() + one_way, bytes)).is_err() {
            return;
        }
    }
}
