//! The local API over HTTP on a Unix socket: one path for each command and query, nothing decided here.
//!
//! The socket is mode 0600: whoever can open it is the node's own user.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use axum::{
    Json, Router,
    body::Body,
    extract::{
        ConnectInfo, DefaultBodyLimit, FromRequestParts, Path as AxumPath, Query, State, connect_info::Connected,
        rejection::JsonRejection,
    },
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::IncomingStream,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::UnixListener;

use super::{
    carry::ExportQuery,
    door::Api,
    types::{
        Bilateral, Compared, IssuerLog, Membership, NewCircle, NewEntry, PolicyChange, Problem, PublishDraft, Raising,
        Retract, RootText, Succession,
    },
};

/// The most that a JSON request may have: a body of 256 KiB, escaped.
const REQUEST_BYTES: usize = 4 << 20;
/// An issuer's log as a file: a hundred thousand certificates.
const ISSUER_LOG_BYTES: usize = 128 << 20;
/// A root document in all its versions, in armour.
const ROOT_BYTES: usize = 2 * cwn_crypto::root::CHAIN_LIMIT;
/// Entries of a list when no limit is given.
const LIST: usize = 50;

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = match self.code.as_str() {
            "bad_request" => StatusCode::BAD_REQUEST,
            "not_found" => StatusCode::NOT_FOUND,
            "refused" | "not_current" | "incomplete" => StatusCode::CONFLICT,
            "read_only" | "ending" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self)).into_response()
    }
}

/// Who is at the other end of the socket, as the system says.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The Unix user, where the system tells.
    pub uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|caller| caller.uid()) }
    }
}

impl Caller {
    /// The user's name, where this machine's own list has it.
    pub fn name(&self) -> Option<String> {
        let users = fs::read_to_string("/etc/passwd").ok()?;
        let uid = self.uid?.to_string();
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == uid).then(|| name.to_owned())
        })
    }
}

type Answer<T> = Result<Json<T>, Problem>;
type Request<T> = Result<Json<T>, JsonRejection>;

fn answer<T: Serialize>(result: Result<T, Problem>) -> Answer<T> {
    result.map(Json)
}

fn request<T>(body: Request<T>) -> Result<T, Problem> {
    body.map(|Json(value)| value).map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::bad_request(
            "the request is longer than this path takes; publish what is long as a file (`cwn attach`)",
        ),
        _ => Problem::bad_request(rejection.body_text()),
    })
}

/// What stands in the path. One that cannot be read is answered with a [`Problem`], as everything here is.
struct InPath<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = AxumPath::from_request_parts(parts, state).await;
        read.map(|AxumPath(value)| Self(value)).map_err(|rejection| Problem::bad_request(rejection.body_text()))
    }
}

/// What stands behind the path's question mark; as [`InPath`].
struct InQuery<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::from_request_parts(parts, state).await;
        read.map(|Query(value)| Self(value)).map_err(|rejection| Problem::bad_request(rejection.body_text()))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    circle: Option<String>,
    limit: Option<usize>,
    before: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UploadQuery {
    circle: String,
    name: String,
    #[serde(default = "octets")]
    media_type: String,
}

fn octets() -> String {
    "application/octet-stream".to_owned()
}

/// All paths.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(async |State(api): State<Api>| answer(api.status().await)))
        .route("/v1/status/acknowledge", post(async |State(api): State<Api>| answer(api.acknowledge().await)))
        .route("/v1/doctor", get(async |State(api): State<Api>| answer(api.doctor().await)))
        .route("/v1/peers", get(async |State(api): State<Api>| answer(api.peers().await)))
        .route("/v1/refusals", get(async |State(api): State<Api>| Json(api.refusals())))
        .route("/v1/partners", get(async |State(api): State<Api>| answer(api.partners().await)))
        .route("/v1/partners/{partner}/compared", post(compared))
        .route("/v1/issuer-log", post(issuer_log).layer(DefaultBodyLimit::max(ISSUER_LOG_BYTES)))
        .route("/v1/root", post(root).layer(DefaultBodyLimit::max(ROOT_BYTES)))
        .route("/v1/bilateral", post(bilateral))
        .route("/v1/circles", get(async |State(api): State<Api>| answer(api.circles().await)).post(found))
        .route(
            "/v1/circles/{circle}",
            get(async |State(api): State<Api>, InPath(circle): InPath<String>| answer(api.circle(&circle).await)),
        )
        .route(
            "/v1/circles/{circle}/accept",
            post(async |State(api): State<Api>, InPath(circle): InPath<String>| answer(api.accept(&circle).await)),
        )
        .route(
            "/v1/circles/{circle}/decline",
            post(async |State(api): State<Api>, InPath(circle): InPath<String>| answer(api.decline(&circle).await)),
        )
        .route("/v1/circles/{circle}/add", post(add))
        .route("/v1/circles/{circle}/remove", post(remove))
        .route("/v1/circles/{circle}/raise", post(raise))
        .route("/v1/circles/{circle}/succeed", post(succeed))
        .route("/v1/circles/{circle}/export/plan", get(export_plan))
        .route("/v1/circles/{circle}/export", get(export))
        .route("/v1/backup", get(backup))
        .route("/v1/import", post(import).layer(DefaultBodyLimit::disable()))
        .route("/v1/circles/{circle}/appoint", post(appoint))
        .route("/v1/circles/{circle}/dismiss", post(dismiss))
        .route("/v1/circles/{circle}/policy", post(policy))
        .route("/v1/entries", get(list).post(publish))
        .route("/v1/audience", post(audience))
        .route("/v1/drafts", get(async |State(api): State<Api>| answer(api.drafts().await)))
        .route(
            "/v1/drafts/{draft}",
            get(async |State(api): State<Api>, InPath(named): InPath<String>| answer(api.draft(&named).await)),
        )
        .route("/v1/drafts/{draft}/publish", post(publish_draft))
        .route(
            "/v1/drafts/{draft}/drop",
            post(async |State(api): State<Api>, InPath(named): InPath<String>| answer(api.drop_draft(&named).await)),
        )
        .route("/v1/overrides", get(async |State(api): State<Api>| answer(api.overrides().await)))
        .route(
            "/v1/entries/{reference}",
            get(async |State(api): State<Api>, InPath(named): InPath<String>| answer(api.entry(&named).await)),
        )
        .route(
            "/v1/entries/{reference}/who",
            get(async |State(api): State<Api>, InPath(named): InPath<String>| answer(api.who(&named).await)),
        )
        .route("/v1/entries/{reference}/retract", post(retract))
        .route("/v1/entries/{reference}/attachments/{index}", get(attachment))
        .route("/v1/attachments", post(upload).layer(DefaultBodyLimit::disable()))
        .fallback(async || Problem::not_found("there is no such path in this API; is `cwn` of another version?"))
        .method_not_allowed_fallback(async || {
            Problem::bad_request("this path is not asked in that way; GET reads, POST does something")
        })
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .with_state(api)
}

async fn compared(
    State(api): State<Api>,
    InPath(partner): InPath<String>,
    body: Request<Compared>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.record_comparison(&partner, &request(body)?).await)
}

async fn issuer_log(State(api): State<Api>, body: Request<IssuerLog>) -> Result<impl IntoResponse, Problem> {
    answer(api.take_issuer_log(&request(body)?).await)
}

async fn root(State(api): State<Api>, body: Request<RootText>) -> Result<impl IntoResponse, Problem> {
    answer(api.adopt_root(&request(body)?).await)
}

async fn bilateral(State(api): State<Api>, body: Request<Bilateral>) -> Result<impl IntoResponse, Problem> {
    answer(api.bilateral(&request(body)?).await)
}

async fn succeed(
    State(api): State<Api>,
    InPath(circle): InPath<String>,
    body: Request<Succession>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.succeed(&circle, request(body)?).await)
}

async fn found(State(api): State<Api>, body: Request<NewCircle>) -> Result<impl IntoResponse, Problem> {
    answer(api.found(request(body)?).await)
}

async fn add(
    State(api): State<Api>,
    InPath(circle): InPath<String>,
    body: Request<Membership>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.add(&circle, &request(body)?).await)
}

async fn remove(
    State(api): State<Api>,
    InPath(circle): InPath<String>,
    body: Request<Membership>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.remove(&circle, &request(body)?).await)
}

async fn export_plan(
    State(api): State<Api>,
    InPath(circle): InPath<String>,
    InQuery(query): InQuery<ExportQuery>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.export_plan(&circle, &query).await)
}

async fn export(
    State(api): State<Api>,
    InPath(circle): InPath<String>,
    InQuery(query): InQuery<ExportQuery>,
) -> Result<impl IntoResponse, Problem> {
    let stream = api.export(&circle, &query).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(stream)))
}

async fn backup(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let stream = api.backup().await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(stream)))
}

async fn import(State(api): State<Api>, body: Body) -> Result<impl IntoResponse, Problem> {
    answer(api.import(body.into_data_stream()).await)
}

async fn raise(
    State(api): State<Api>,
    InPath(circle): InPath<String>,
    body: Request<Raising>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.raise(&circle, &request(body)?).await)
}

async fn appoint(
    State(api): State<Api>,
    InPath(circle): InPath<String>,
    body: Request<Membership>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.appoint(&circle, &request(body)?).await)
}

async fn dismiss(
    State(api): State<Api>,
    InPath(circle): InPath<String>,
    body: Request<Membership>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.dismiss(&circle, &request(body)?).await)
}

async fn policy(
    State(api): State<Api>,
    InPath(circle): InPath<String>,
    body: Request<PolicyChange>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.policy(&circle, &request(body)?).await)
}

async fn list(State(api): State<Api>, InQuery(query): InQuery<ListQuery>) -> Result<impl IntoResponse, Problem> {
    answer(api.entries(query.circle.as_deref(), query.limit.unwrap_or(LIST), query.before.as_deref()).await)
}

async fn publish(State(api): State<Api>, body: Request<NewEntry>) -> Result<impl IntoResponse, Problem> {
    answer(api.publish(&request(body)?).await)
}

async fn publish_draft(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    InPath(named): InPath<String>,
    body: Request<PublishDraft>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.publish_draft(&named, request(body)?, caller).await)
}

async fn retract(
    State(api): State<Api>,
    InPath(named): InPath<String>,
    body: Request<Retract>,
) -> Result<impl IntoResponse, Problem> {
    answer(api.retract(&named, &request(body)?).await)
}

async fn audience(State(api): State<Api>, body: Request<NewEntry>) -> Result<impl IntoResponse, Problem> {
    answer(api.audience(&request(body)?).await)
}

async fn upload(
    State(api): State<Api>,
    InQuery(query): InQuery<UploadQuery>,
    body: Body,
) -> Result<impl IntoResponse, Problem> {
    answer(api.upload(&query.circle, query.name, query.media_type, body.into_data_stream()).await)
}

async fn attachment(
    State(api): State<Api>,
    InPath((named, index)): InPath<(String, usize)>,
) -> Result<impl IntoResponse, Problem> {
    let (attachment, stream) = api.attachment(&named, index).await?;
    // Whatever the author calls it, nothing here may take it for a page.
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, attachment.size.to_string()),
    ];
    Ok((headers, Body::from_stream(stream)))
}

/// Listens on a socket that only this user can open. One left by a daemon that was killed is replaced; the
/// store's lock has shown that none runs.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the API until `stop` resolves.
pub async fn serve(
    listener: UnixListener,
    api: Api,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = router(api).into_make_service_with_connect_info::<Caller>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}
