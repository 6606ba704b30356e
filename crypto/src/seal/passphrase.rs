//! Sealing under a passphrase, for keys at rest: age's scrypt recipient (RFC 7914 for scrypt).

use std::io::{Read, Write};

use age::secrecy::SecretString;
use zeroize::Zeroizing;

use super::Refusal;

/// The most work that an opening does: 2^22 is some seconds on a slow machine. What asks for more was made to
/// hold a machine up.
const MOST_WORK: u8 = 22;

/// Seals under a passphrase. age chooses the work so that it takes about a second on this machine.
pub fn seal_with_passphrase(passphrase: &str, plaintext: &[u8]) -> Result<Vec<u8>, Refusal> {
    let encryptor = age::Encryptor::with_user_passphrase(SecretString::from(passphrase.to_owned()));
    let mut sealed = Vec::new();
    let written = encryptor.wrap_output(&mut sealed).and_then(|mut writer| {
        writer.write_all(plaintext)?;
        writer.finish()
    });
    // Writing to memory does not fail.
    written.map_err(|_never| Refusal::Damaged)?;
    Ok(sealed)
}

/// Opens what was sealed under a passphrase, if it is no longer than `limit`.
pub fn open_with_passphrase(passphrase: &str, sealed: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
    identity.set_max_work_factor(MOST_WORK);
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(|_malformed| Refusal::NotSealed)?;
    let reader = decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .map_err(|_wrong_passphrase| Refusal::NotForThisKey)?;
    let mut opened = Zeroizing::new(Vec::with_capacity(limit.min(sealed.len())));
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    reader.take(most.saturating_add(1)).read_to_end(&mut opened).map_err(|_altered| Refusal::Damaged)?;
    if opened.len() > limit {
        return Err(Refusal::TooLong { limit });
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_opens_what_it_sealed_and_no_other_does() {
        let sealed = seal_with_passphrase("correct horse", b"seed").unwrap();
        assert_eq!(open_with_passphrase("correct horse", &sealed, 64).unwrap().as_slice(), b"seed");
        assert_eq!(open_with_passphrase("wrong horse", &sealed, 64), Err(Refusal::NotForThisKey));
        assert_eq!(open_with_passphrase("correct horse", b"garbage", 64), Err(Refusal::NotSealed));
    }
}
