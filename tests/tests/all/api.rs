//! What the local API answers to what makes no sense: always a problem that says what is wrong, and never an end.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt,
};

use cwn_node::api::types::{EntrySummary, Problem, Status};
use cwn_tests::world::World;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

async fn connect(world: &World) -> io::Result<UnixStream> {
    UnixStream::connect(world.node("ncsc").data.join("cwn.sock")).await
}

/// The daemon may answer and hang up before it has read all of what it does not want.
fn hung_up(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(()),
        result => result,
    }
}

/// Asks by hand, and gives the problem that comes back.
async fn problem(world: &World, line: &str, body: &str) -> anyhow::Result<Problem> {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: cwn\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut stream = connect(world).await?;
    hung_up(stream.write_all(request.as_bytes()).await)?;
    let mut answer = Vec::new();
    hung_up(stream.read_to_end(&mut answer).await.map(drop))?;
    let answer = String::from_utf8(answer)?;
    let json = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str(json).map_err(|error| anyhow::anyhow!("{line}: {error}: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_the_answer_says_what_is_wrong_and_what_to_do() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    world.start("ncsc").await?;
    world.found("ncsc", "zorg", &[]).await?;
    let entry = r#"{"circle":"zorg","title":"t","body":"","tlp":"GREEN""#;
    let unmarked = r#"{"circle":"zorg","title":"t","body":""}"#;
    let cases = [
        ("GET /v1/nothing", String::new(), "not_found", "no such path"),
        ("GET /", String::new(), "not_found", "no such path"),
        ("DELETE /v1/circles", String::new(), "bad_request", "POST"),
        ("GET /v1/circles/none", String::new(), "not_found", "none"),
        ("GET /v1/circles/%ff", String::new(), "bad_request", "UTF-8"),
        ("GET /v1/entries?limit=many", String::new(), "bad_request", "limit"),
        ("GET /v1/entries?limti=1", String::new(), "bad_request", "limti"),
        ("GET /v1/entries?before=yesterday", String::new(), "bad_request", "yesterday"),
        ("GET /v1/entries?before=0123456789ab", String::new(), "not_found", "0123456789ab"),
        ("GET /v1/entries?circle=none", String::new(), "not_found", "none"),
        ("GET /v1/entries/xyz", String::new(), "bad_request", "hexadecimal"),
        ("GET /v1/entries/ab", String::new(), "bad_request", "at least 6"),
        ("GET /v1/entries/..%2f..%2fkeys.cwn", String::new(), "bad_request", "reference"),
        ("GET /v1/entries/abcdef0123", String::new(), "not_found", "cwn list"),
        ("GET /v1/entries/abcdef0123/who", String::new(), "not_found", "cwn list"),
        ("GET /v1/entries/abcdef0123/attachments/first", String::new(), "bad_request", "first"),
        ("GET /v1/entries/abcdef0123/attachments/0", String::new(), "not_found", "cwn list"),
        ("POST /v1/attachments", String::new(), "bad_request", "circle"),
        ("POST /v1/attachments?circle=zorg&name=..%2fkeys.cwn", "x".to_owned(), "bad_request", "keys.cwn"),
        ("POST /v1/circles", r#"{"name":"#.to_owned(), "bad_request", "EOF"),
        ("POST /v1/circles", "[1]".to_owned(), "bad_request", "expected a string"),
        ("POST /v1/circles", "[".repeat(100_000), "bad_request", "expected a string"),
        ("POST /v1/circles", r#"{"name":"a","nmae":"b"}"#.to_owned(), "bad_request", "nmae"),
        ("POST /v1/circles", r#"{"name":""}"#.to_owned(), "refused", "name"),
        ("POST /v1/circles", r#"{"name":"a\u001b[2J"}"#.to_owned(), "refused", "name"),
        ("POST /v1/circles", r#"{"name":"a","ceiling":"WHITER"}"#.to_owned(), "bad_request", "AMBER"),
        ("POST /v1/circles", r#"{"name":"a","partners":["nobody"]}"#.to_owned(), "not_found", "nobody"),
        ("POST /v1/circles", r#"{"name":"a","partners":["No Body"]}"#.to_owned(), "bad_request", "No Body"),
        ("POST /v1/circles", format!(r#"{{"name":"{}"}}"#, "x".repeat(5 << 20)), "bad_request", "longer"),
        ("POST /v1/circles/zorg/add", r#"{"partner":"nobody"}"#.to_owned(), "not_found", "cwn partners"),
        ("POST /v1/circles/zorg/add", r#"{"partner":"ncsc","node":"12"}"#.to_owned(), "bad_request", "64"),
        ("POST /v1/circles/zorg/remove", r#"{"partner":"nobody"}"#.to_owned(), "refused", "nobody"),
        ("POST /v1/circles/zorg/accept", String::new(), "refused", "already"),
        ("POST /v1/circles/none/accept", String::new(), "not_found", "offer"),
        ("POST /v1/partners/ncsc/compared", r#"{"node":"0123456789"}"#.to_owned(), "not_found", "cwn partners"),
        ("POST /v1/issuer-log", r#"{"text":"no log"}"#.to_owned(), "bad_request", "BEGIN"),
        ("POST /v1/entries", unmarked.to_owned(), "bad_request", "tlp"),
        ("POST /v1/entries", format!(r#"{entry},"to":["ferm"]}}"#), "refused", "ferm"),
        ("POST /v1/entries", format!(r#"{entry},"pap":"BLUE"}}"#), "bad_request", "BLUE"),
        ("POST /v1/entries", format!(r#"{entry},"attachments":["none"]}}"#), "not_found", "upload"),
        ("POST /v1/entries", format!(r#"{entry},"wait_seconds":-1}}"#), "bad_request", "wait_seconds"),
    ];
    let mut wrong = Vec::new();
    for (line, body, code, word) in cases {
        let said = problem(&world, line, &body).await?;
        if said.code != code || !said.error.contains(word) {
            wrong.push(format!("{line} {}: {said:?}", &body[..body.len().min(60)]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Nothing of it was done.
    let status: Status = world.client("ncsc").get("/v1/status").await?;
    let circles: Vec<&str> = status.circles.iter().map(|circle| circle.name.as_str()).collect();
    assert_eq!((circles.as_slice(), status.circles[0].entries), (["zorg"].as_slice(), 0));
    assert!(!world.node("ncsc").data.join("chunks").exists(), "no part of a refused file is kept");
    Ok(())
}

/// Sends what is no request, and waits until the daemon has had enough of it.
async fn disturb(world: &World, bytes: &[u8]) -> io::Result<()> {
    let mut stream = connect(world).await?;
    hung_up(stream.write_all(bytes).await)?;
    hung_up(stream.shutdown().await)?;
    hung_up(stream.read_to_end(&mut Vec::new()).await.map(drop))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_ends_its_own_connection_and_nothing_else() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    world.start("ncsc").await?;
    disturb(&world, &[0xff; 4_096]).await?;
    disturb(&world, b"GET /v1/status").await?;
    disturb(&world, format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)).as_bytes()).await?;
    disturb(&world, format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(1 << 20)).as_bytes()).await?;
    let half =
        "POST /v1/circles HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{\"name\":\"half\"}";
    disturb(&world, half.as_bytes()).await?;
    let status: Status = world.client("ncsc").get("/v1/status").await?;
    assert_eq!((status.partner.as_str(), status.circles.len()), ("ncsc", 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_this_users_alone_and_one_left_by_a_killed_daemon_is_replaced() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    for _ in 0..2 {
        world.start("ncsc").await?;
        let mode = fs::metadata(world.node("ncsc").data.join("cwn.sock"))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        world.kill("ncsc")?;
        assert!(world.node("ncsc").data.join("cwn.sock").exists());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_list_follow_one_another_whatever_is_written_meanwhile() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    world.start("ncsc").await?;
    world.found("ncsc", "zorg", &[]).await?;
    let titles: Vec<String> = (0..5).map(|number| format!("entry {number}")).collect();
    for title in &titles {
        world.publish("ncsc", "zorg", title).await?;
    }
    let mut seen = Vec::new();
    let mut before = String::new();
    loop {
        let page: Vec<EntrySummary> = world.client("ncsc").get(&format!("/v1/entries?limit=2{before}")).await?;
        world.publish("ncsc", "zorg", "written meanwhile").await?;
        let Some(last) = page.last() else { break };
        before = format!("&before={}", last.reference);
        seen.extend(page.into_iter().filter_map(|entry| entry.title));
    }
    seen.reverse();
    assert_eq!(seen, titles);
    Ok(())
}
