//! Frames on a stream: a length of four bytes, big-endian, and so many bytes.
//!
//! The length is checked before anything is allocated, and memory then grows with what arrives, not with what
//! was announced. An empty frame ends a run: a stream that was reset looks like one that ended, so the end
//! has to be said. It refuses to know what the bytes mean.

use std::{io, time::Duration};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why no further frame can be read from a stream, or written to it.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A frame is longer than frames may be.
    #[error(
        "a frame of {length} bytes, where at most {limit} are allowed; the other side must be updated, or means harm"
    )]
    TooLong {
        /// The length it announced.
        length: usize,
        /// The length allowed here.
        limit: usize,
    },
    /// The stream ended within a frame, or before the end was said.
    #[error("the stream was cut off; what is missing has to be asked for again")]
    CutOff,
    /// Nothing moved for too long.
    #[error("nothing moved for {} seconds; the other side may be overloaded, or its line may be down", .0.as_secs())]
    Stalled(Duration),
    /// The session is over, or was never there.
    #[error("the connection is gone; what is missing has to be asked for again once it is back")]
    Gone,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// The next frame; none at the end of the stream.
pub(super) async fn read<R: AsyncRead + Unpin>(stream: &mut R, limit: usize) -> Result<Option<Vec<u8>>, Broken> {
    let mut header = [0; 4];
    let mut have = 0;
    while have < header.len() {
        match stream.read(&mut header[have..]).await? {
            0 if have == 0 => return Ok(None),
            0 => return Err(Broken::CutOff),
            more => have += more,
        }
    }
    let announced = u32::from_be_bytes(header);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > limit {
        return Err(Broken::TooLong { length, limit });
    }
    let mut body = Vec::new();
    stream.take(u64::from(announced)).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(Broken::CutOff);
    }
    Ok(Some(body))
}

/// The next frame, unless it takes longer than `patience`.
pub(super) async fn read_within<R: AsyncRead + Unpin>(
    stream: &mut R,
    limit: usize,
    patience: Duration,
) -> Result<Option<Vec<u8>>, Broken> {
    let read = tokio::time::timeout(patience, read(stream, limit)).await;
    read.unwrap_or(Err(Broken::Stalled(patience)))
}

/// Writes a frame; it may leave only with the next flush.
pub(super) async fn write<W: AsyncWrite + Unpin>(stream: &mut W, bytes: &[u8], limit: usize) -> Result<(), Broken> {
    let length = match u32::try_from(bytes.len()) {
        Ok(length) if bytes.len() <= limit => length,
        _ => return Err(Broken::TooLong { length: bytes.len(), limit }),
    };
    stream.write_all(&length.to_be_bytes()).await?;
    Ok(stream.write_all(bytes).await?)
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    fn read_all(bytes: &[u8], limit: usize) -> (Vec<Vec<u8>>, Result<(), Broken>) {
        let mut stream = Cursor::new(bytes);
        let mut frames = Vec::new();
        loop {
            match block_on(read(&mut stream, limit)) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, Ok(())),
                Err(broken) => return (frames, Err(broken)),
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        for frame in [&b"one"[..], b"", b"three"] {
            block_on(write(&mut bytes, frame, 5)).unwrap();
        }
        let (frames, end) = read_all(&bytes, 5);
        assert_eq!(frames, [&b"one"[..], b"", b"three"]);
        end.unwrap();
    }

    #[test]
    fn a_frame_at_the_limit_is_read_and_one_byte_more_is_refused_before_its_body() {
        let (frames, end) = read_all(b"\0\0\0\x03abc\0\0\0\x04", 3);
        assert_eq!(frames, [b"abc"]);
        assert!(matches!(end, Err(Broken::TooLong { length: 4, limit: 3 })), "{end:?}");
    }

    #[test]
    fn the_longest_length_there_is_costs_no_memory() {
        let (_, end) = read_all(b"\xff\xff\xff\xffabc", 1 << 20);
        assert!(matches!(end, Err(Broken::TooLong { .. })), "{end:?}");
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_was_cut_off() {
        for bytes in [&b"\0\0"[..], b"\0\0\0\x03", b"\0\0\0\x03ab"] {
            let (_, end) = read_all(bytes, 9);
            assert!(matches!(end, Err(Broken::CutOff)), "{bytes:?} {end:?}");
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_not_written() {
        let mut bytes = Vec::new();
        assert!(matches!(block_on(write(&mut bytes, b"long", 3)), Err(Broken::TooLong { length: 4, limit: 3 })));
        assert_eq!(bytes, b"");
    }
}
