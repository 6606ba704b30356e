//! What no protocol can beat: the same bytes over plain TCP and to the same disk, made durable as often.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// The receiver makes groups of this size durable.
const GROUP_BYTES: usize = 4 << 20;
const WRITE_BYTES: usize = 256 << 10;

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Plain TCP over loopback, append, and fdatasync of every group; in seconds.
pub(crate) fn copy(dir: &Path, bytes: u64) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let chunk = noise(WRITE_BYTES);
    let path = dir.join("plain");
    let mut file = File::create(&path)?;
    let start = Instant::now();
    let sender = thread::spawn(move || -> std::io::Result<()> {
        let mut socket = TcpStream::connect(address)?;
        let mut left = bytes;
        while left > 0 {
            let now = left.min(WRITE_BYTES as u64);
            socket.write_all(&chunk[..now as usize])?;
            left -= now;
        }
        Ok(())
    });
    let (mut socket, _) = listener.accept()?;
    let mut group = Vec::with_capacity(GROUP_BYTES);
    loop {
        group.clear();
        (&mut socket).take(GROUP_BYTES as u64).read_to_end(&mut group)?;
        if group.is_empty() {
            break;
        }
        file.write_all(&group)?;
        file.sync_data()?;
    }
    let took = start.elapsed().as_secs_f64();
    sender.join().map_err(|_panicked| anyhow::anyhow!("the sender of the plain copy panicked"))??;
    anyhow::ensure!(file.metadata()?.len() == bytes, "the plain copy is not whole");
    fs::remove_file(path)?;
    Ok(took)
}

/// Appends these and makes each durable; in seconds.
pub(crate) fn append(file: &mut File, groups: &[Vec<u8>]) -> std::io::Result<f64> {
    let start = Instant::now();
    for group in groups {
        file.write_all(group)?;
        file.sync_data()?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// One sends 1 kB to so many others over connections of their own, each of which appends it, makes it durable and
/// says so; `paced` times, with a pause after each. Gives how long the last took each time, in milliseconds, sorted.
pub(crate) fn fan_out(dir: &Path, receivers: usize, paced: usize, pause: Duration) -> anyhow::Result<Vec<f64>> {
    const ITEM_BYTES: usize = 1_024;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut receiving = Vec::new();
    let mut sockets = Vec::new();
    for number in 0..receivers {
        let path = dir.join(format!("fan-out-{number}"));
        receiving.push(thread::spawn(move || -> std::io::Result<()> {
            let mut socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            let mut file = File::create(&path)?;
            let mut item = [0; ITEM_BYTES];
            // It ends when the sender does.
            while socket.read_exact(&mut item).is_ok() {
                file.write_all(&item)?;
                file.sync_data()?;
                socket.write_all(&[1])?;
            }
            fs::remove_file(&path)
        }));
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let item = noise(ITEM_BYTES);
    let mut took = Vec::new();
    for _ in 0..paced {
        let start = Instant::now();
        for socket in &mut sockets {
            socket.write_all(&item)?;
        }
        for socket in &mut sockets {
            socket.read_exact(&mut [0])?;
        }
        took.push(start.elapsed().as_secs_f64() * 1e3);
        thread::sleep(pause);
    }
    drop(sockets);
    for receiver in receiving {
        receiver.join().map_err(|_panicked| anyhow::anyhow!("a receiver of the fan-out panicked"))??;
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}
