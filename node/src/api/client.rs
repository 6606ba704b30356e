//! The client of the local API, for the member's program and the demo.
//!
//! One request, one connection: the socket is local, and a command lives for one question.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::types::Problem;
use crate::files::{Part, dir_of, remedy};

/// The most that a JSON answer may have.
const ANSWER_BYTES: usize = 64 << 20;
const COPY_BYTES: usize = 256 << 10;
/// How long a daemon may take to begin.
const STARTING: Duration = Duration::from_secs(2);

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no daemon answers on {}: {source}; {}", .socket.display(), no_daemon(.socket, source))]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The daemon refused, and says why.
    #[error("{}", .0.error)]
    Refused(Problem),
    /// The connection broke.
    #[error("the daemon's answer broke off: {0}; see its log, and `cwn doctor`")]
    Broken(String),
    /// A file here.
    #[error("{}: {source}{}", .path.display(), remedy(source))]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    /// The short word for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::NoDaemon { .. } => "no_daemon",
            Self::Refused(problem) => &problem.code,
            Self::Broken(_) => "broken",
            Self::File { .. } => "file",
        }
    }
}

/// What to do where nobody answers.
fn no_daemon(socket: &Path, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "run this as the user that the daemon runs as".to_owned(),
        _ => format!("start it with `cwn --data {} daemon`", dir_of(socket).display()),
    }
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Broken(error.to_string())
}

type Body = BoxBody<Bytes, io::Error>;

/// Asks one daemon.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon that listens on `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = collect(response).await?;
        let problem = serde_json::from_slice(&bytes).unwrap_or_else(|_not_json| Problem {
            error: format!("the daemon answered {status}; is it of another version? See `cwn --version`"),
            code: if status == StatusCode::NOT_FOUND { "not_found" } else { "broken" }.to_owned(),
        });
        Err(Error::Refused(problem))
    }

    /// Connects, and gives a daemon that was just started a moment to begin.
    async fn connect(&self) -> Result<UnixStream, Error> {
        let start = tokio::time::Instant::now();
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(_) if start.elapsed() < STARTING => tokio::time::sleep(STARTING / 20).await,
                Err(source) => return Err(Error::NoDaemon { socket: self.socket.clone(), source }),
            }
        }
    }

    fn request(method: Method, path: &str, body: Body) -> Result<Request<Body>, Error> {
        let request = Request::builder().method(method).uri(path).header("host", "cwn");
        request.header("content-type", "application/json").body(body).map_err(broken)
    }

    /// Reads something.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.send(Self::request(Method::GET, path, whole(Bytes::new()))?).await?;
        serde_json::from_slice(&collect(response).await?).map_err(broken)
    }

    /// Does something.
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(broken)?;
        let response = self.send(Self::request(Method::POST, path, whole(body.into()))?).await?;
        serde_json::from_slice(&collect(response).await?).map_err(broken)
    }

    /// Sends a file as the body, and says as it goes how many bytes went.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        file: &Path,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let at = |source| Error::File { path: file.to_owned(), source };
        let source = File::open(file).await.map_err(at)?;
        let chunks = stream::try_unfold((source, 0), move |(mut source, sent)| {
            progress(sent);
            async move {
                let mut chunk = vec![0; COPY_BYTES];
                let read = source.read(&mut chunk).await?;
                chunk.truncate(read);
                let next = (source, sent + read as u64);
                Ok::<_, io::Error>((read > 0).then(|| (Frame::data(Bytes::from(chunk)), next)))
            }
        });
        let body = BodyExt::boxed(StreamBody::new(sync_stream(chunks)));
        let response = self.send(Self::request(Method::POST, path, body)?).await?;
        serde_json::from_slice(&collect(response).await?).map_err(broken)
    }

    /// Writes an answer to a file, which must not exist yet, and says as it goes how many bytes came.
    pub async fn download(&self, path: &str, file: &Path, progress: impl Fn(u64)) -> Result<u64, Error> {
        let mut options = OpenOptions::new();
        options.create_new(true);
        self.download_as(path, file, options, progress).await
    }

    /// As [`Self::download`], to the part of a file.
    pub async fn download_part(&self, path: &str, part: &Part, progress: impl Fn(u64)) -> Result<u64, Error> {
        self.download_as(path, part.path(), OpenOptions::new(), progress).await
    }

    async fn download_as(
        &self,
        path: &str,
        file: &Path,
        mut options: OpenOptions,
        progress: impl Fn(u64),
    ) -> Result<u64, Error> {
        let at = |source| Error::File { path: file.to_owned(), source };
        let mut response = self.send(Self::request(Method::GET, path, whole(Bytes::new()))?).await?;
        let mut target = options.write(true).open(file).await.map_err(at)?;
        let mut written = 0;
        let result = loop {
            match response.frame().await {
                None => break target.sync_all().await.map_err(at),
                Some(Err(error)) => break Err(broken(error)),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Err(source) = target.write_all(&data).await {
                        break Err(at(source));
                    }
                    written += data.len() as u64;
                    progress(written);
                }
            }
        };
        if result.is_err() {
            // A part of a file must not be taken for the whole.
            drop(target);
            tokio::fs::remove_file(file).await.map_err(at)?;
        }
        result.map(|()| written)
    }
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// `BoxBody` wants `Sync`, which a stream of futures is not; only one task ever polls it.
fn sync_stream<S>(stream: S) -> impl futures::Stream<Item = S::Item> + Send + Sync
where
    S: futures::Stream + Send + 'static,
    S::Item: Send + 'static,
{
    let (sender, receiver) = futures::channel::mpsc::channel(1);
    tokio::spawn(stream.map(Ok).forward(sender));
    receiver
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, Error> {
    let limited = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES);
    Ok(limited.collect().await.map_err(broken)?.to_bytes())
}
