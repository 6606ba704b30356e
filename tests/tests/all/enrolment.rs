//! Joining as people type it, by files: for a partner that may not connect out, and for a CA that is kept offline.

use std::{fs, path::Path};

use cwn_tests::shell::{Said, say};

/// Types a line that must succeed.
fn done(dir: &Path, line: &str) -> anyhow::Result<String> {
    let Said { out, err, code } = say(dir, line)?;
    anyhow::ensure!(code == Some(0), "{line}: {out}{err}");
    Ok(out)
}

/// Types a line that must be refused, with these words.
fn refused(dir: &Path, line: &str, words: &[&str]) -> anyhow::Result<()> {
    let Said { out, err, code } = say(dir, line)?;
    anyhow::ensure!(code == Some(1), "{line}: exit code {code:?}: {out}{err}");
    // One line for what happened, one for what to do; behind what a person is shown before it is asked.
    let at_last = err.lines().skip_while(|line| !line.starts_with("cwn: ")).nth(1);
    anyhow::ensure!(at_last.is_some_and(|remedy| remedy.starts_with("     ")), "{line}: {err}");
    anyhow::ensure!(words.iter().all(|word| err.contains(word)), "{line}: {words:?}: {err}");
    Ok(())
}

/// A directory with a CA, the coordinator's node, and credentials for more.
fn founded() -> anyhow::Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    let at = dir.path();
    for name in ["ca", "ncsc", "ibd", "other"] {
        done(at, &format!("umask 077; head -c 32 /dev/urandom > {name}-credential"))?;
    }
    done(at, "cwn ca --dir ca --credential ca-credential init --name Test")?;
    done(
        at,
        "cwn --data ncsc join --ca ca --ca-credential ca-credential --partner ncsc --name NCSC --credential ncsc-credential",
    )?;
    Ok(dir)
}

const CA: &str = "cwn ca --dir ca --credential ca-credential";

#[test]
fn a_partner_joins_by_files_and_its_invitation_serves_nobody_else() -> anyhow::Result<()> {
    let dir = founded()?;
    let at = dir.path();
    done(at, &format!("umask 077; {CA} invite ibd --name IBD > invitation"))?;
    let ask = |data: &str, request: &str| {
        format!("cwn --data {data} join --file invitation --credential {data}-credential --request {request}")
    };
    let asked = done(at, &ask("ibd", "request"))?;
    // Nothing is issued before somebody compared the words and says yes.
    let approve = format!("{CA} approve --request request --out reply");
    refused(at, &approve, &["Compare by telephone: ", "IBD", "--yes"])?;
    assert!(!at.join("reply").exists() && !done(at, &format!("{CA} list"))?.contains("ibd"));
    let shown = say(at, &format!("{approve} --yes"))?.err;
    let words = shown.lines().find_map(|line| line.strip_prefix("Compare by telephone: ")).unwrap();
    assert!(asked.contains(words), "both sides see the same words: {asked}{shown}");
    // Lost on the way, it is made again and says the same.
    done(at, &format!("{CA} approve --request request --out again --yes"))?;

    // Somebody else has the invitation too, and comes second.
    done(at, &ask("other", "stolen"))?;
    refused(at, &format!("{CA} approve --request stolen --out nothing"), &["already used", "somebody else"])?;
    assert!(!at.join("nothing").exists());
    refused(
        at,
        "cwn --data other join --file invitation --credential other-credential --reply reply",
        &["does not open", "data directory"],
    )?;
    refused(at, "cwn --data other daemon", &["certificate.cwn", "join"])?;

    done(at, "cwn --data ibd join --file invitation --credential ibd-credential --reply again")?;
    refused(
        at,
        "cwn --data ibd join --file invitation --credential ibd-credential --reply reply",
        &["member already"],
    )?;
    let listed = done(at, &format!("{CA} list"))?;
    assert!(listed.contains("ibd") && listed.contains("ncsc") && !listed.contains("other"), "{listed}");
    Ok(())
}

#[test]
fn an_invitation_or_reply_that_does_not_hold_is_refused_and_leaves_nothing_half_done() -> anyhow::Result<()> {
    let dir = founded()?;
    let at = dir.path();
    done(at, &format!("umask 077; {CA} invite ibd --name IBD > invitation"))?;
    let good = fs::read_to_string(at.join("invitation"))?;
    let join = "cwn --data ibd join --file mistyped --credential ibd-credential --request request";
    let middle = good.len() / 2;
    let other = if good.as_bytes()[middle] == b'q' { "p" } else { "q" };
    let mistyped = [&good[..middle], other, &good[middle + 1..]].concat();
    for text in [mistyped.as_str(), &good[..middle], "", "hello"] {
        fs::write(at.join("mistyped"), text)?;
        refused(at, join, &["invitation"])?;
        assert!(!at.join("request").exists() && !at.join("ibd").exists(), "{text:?}");
    }
    let nowhere = say(at, &join.replace("--file mistyped", "--file nowhere"))?;
    assert!(nowhere.code == Some(1) && nowhere.err.starts_with("cwn: nowhere: No such file"), "{nowhere:?}");

    done(at, "cwn --data ibd join --file invitation --credential ibd-credential --request request")?;
    let request = fs::read_to_string(at.join("request"))?;
    for text in [&request[..request.len() / 2], "", good.as_str()] {
        fs::write(at.join("broken"), text)?;
        refused(at, &format!("{CA} approve --request broken --out reply"), &["REQUEST"])?;
        assert!(!at.join("reply").exists());
    }
    for text in [request.as_str(), ""] {
        fs::write(at.join("reply"), text)?;
        refused(at, "cwn --data ibd join --file invitation --credential ibd-credential --reply reply", &["REPLY"])?;
        assert!(!at.join("ibd/certificate.cwn").exists());
    }
    Ok(())
}

#[test]
fn commands_without_a_daemon_a_directory_or_the_right_credential_say_what_to_do() -> anyhow::Result<()> {
    let dir = founded()?;
    let at = dir.path();
    refused(at, "cwn --data nowhere status", &["nowhere", "cwn join"])?;
    refused(at, "cwn --data ncsc status", &["no daemon", "daemon`"])?;
    refused(at, "cwn --data nowhere daemon", &["certificate.cwn", "cwn --data nowhere join"])?;
    assert!(!at.join("nowhere").exists());
    refused(at, "cwn ca --dir nowhere --credential ca-credential list", &["nowhere", "init"])?;
    refused(at, "cwn ca --dir ca --credential ncsc-credential list", &["credential"])?;
    refused(at, "cwn ca --dir ca --credential ca-credential init --name Again", &["already"])?;
    refused(at, &format!("{CA} revoke nobody --reason x"), &["nobody"])?;
    refused(at, &format!("{CA} approve nobody"), &["nobody"])?;
    done(at, "chmod 0644 ncsc-credential")?;
    refused(at, "cwn --data ncsc daemon", &["ncsc-credential", "chmod"])?;
    Ok(())
}
