//! The real sealing: age's file format, with age's X25519 stanza and our stanza for an epoch's key.
//!
//! The epoch stanza:
//!
//! ```text
//! -> cwn/epoch/1 <label> <salt>
//! <file key, wrapped>
//! ```
//!
//! where the label is the first 16 bytes of the key's commitment, the salt 16 random bytes, and the body
//! ChaCha20-Poly1305 of the file key with a zero nonce, under HKDF-SHA256 of the epoch's key with that salt
//! and the stanza's tag and the whole commitment as info. The salt makes each wrapping key used once, which
//! is what allows the zero nonce, as in age's own stanzas.

use std::io::{Read, Write};

use age::{DecryptError, Decryptor, EncryptError, Encryptor};
use age_core::{
    format::{FILE_KEY_BYTES, FileKey, Stanza},
    primitives::{aead_decrypt, aead_encrypt, hkdf},
    secrecy::ExposeSecret,
};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use zeroize::Zeroizing;

use super::{EpochKey, RECIPIENTS_LIMIT, Recipient, Refusal, Seal, SealingKey, check_recipients};

/// Sealing with age.
#[derive(Debug, Clone, Copy, Default)]
pub struct Age;

const EPOCH_TAG: &str = "cwn/epoch/1";
const SALT_BYTES: usize = 16;
const LABEL_BYTES: usize = 16;
/// The first and the last line of a header, and the most that age itself adds to test that readers skip it.
const SPARE_LINES: usize = 8;
/// Two lines for each recipient.
const HEADER_LINES: usize = 2 * RECIPIENTS_LIMIT + SPARE_LINES;
/// An X25519 stanza takes 99 bytes; a grease stanza may take 300.
const HEADER_BYTES: usize = 128 * RECIPIENTS_LIMIT + 1024;

impl Seal for Age {
    fn seal_to_epoch(&self, key: &EpochKey, plaintext: &[u8]) -> Vec<u8> {
        // With one recipient of our own, only a broken random generator of the system can fail, and without
        // one nothing secret may be written at all. age panics there too.
        seal(&[key], plaintext).unwrap_or_else(|error| panic!("the system gives no random bytes: {error}"))
    }

    fn open_with_epoch(&self, key: &EpochKey, sealed: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
        open(key, sealed, limit)
    }

    fn seal_to_recipients(&self, recipients: &[Recipient], plaintext: &[u8]) -> Result<Vec<u8>, Refusal> {
        check_recipients(recipients)?;
        let of_age = recipients.iter().map(|recipient| {
            let parsed = recipient.to_string().parse::<age::x25519::Recipient>();
            parsed.map_err(|_reason| Refusal::Unsound { recipient: *recipient })
        });
        let of_age = of_age.collect::<Result<Vec<_>, _>>()?;
        let of_age: Vec<_> = of_age.iter().map(|recipient| recipient as &dyn age::Recipient).collect();
        Ok(seal(&of_age, plaintext).unwrap_or_else(|error| panic!("age cannot seal to X25519 keys: {error}")))
    }

    fn open_with_key(&self, key: &SealingKey, sealed: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
        open(&key.age, sealed, limit)
    }
}

fn seal(recipients: &[&dyn age::Recipient], plaintext: &[u8]) -> Result<Vec<u8>, EncryptError> {
    let encryptor = Encryptor::with_recipients(recipients.iter().copied())?;
    // The header, and a tag of 16 bytes for each chunk of 64 KiB.
    let mut sealed = Vec::with_capacity(plaintext.len() + plaintext.len() / 4096 + 128 * recipients.len() + 512);
    let mut writer = encryptor.wrap_output(&mut sealed)?;
    writer.write_all(plaintext)?;
    writer.finish()?;
    Ok(sealed)
}

fn open(key: &dyn age::Identity, sealed: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
    check_header(sealed)?;
    let decryptor = Decryptor::new_buffered(sealed).map_err(|error| refusal(&error))?;
    let reader = decryptor.decrypt(std::iter::once(key)).map_err(|error| refusal(&error))?;
    let mut plaintext = Vec::with_capacity(sealed.len().min(limit).saturating_add(1));
    // One byte more than allowed tells what is too long from what just fits.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut plaintext).map_err(|_failed_tag_or_end| Refusal::Damaged)?;
    if plaintext.len() > limit { Err(Refusal::TooLong { limit }) } else { Ok(plaintext) }
}

/// Bounds the header before age parses it: age starts again from the first line for each line it adds.
fn check_header(sealed: &[u8]) -> Result<(), Refusal> {
    let start = &sealed[..sealed.len().min(HEADER_BYTES)];
    let mut lines = start.split_inclusive(|&byte| byte == b'\n').take(HEADER_LINES);
    if lines.any(|line| line.starts_with(b"--- ")) { Ok(()) } else { Err(Refusal::NotSealed) }
}

fn refusal(error: &DecryptError) -> Refusal {
    match error {
        DecryptError::NoMatchingKeys => Refusal::NotForThisKey,
        DecryptError::DecryptionFailed
        | DecryptError::KeyDecryptionFailed
        | DecryptError::InvalidMac
        | DecryptError::Io(_) => Refusal::Damaged,
        // An invalid header, an unknown version, a passphrase: nothing that was sealed here.
        _ => Refusal::NotSealed,
    }
}

impl EpochKey {
    fn label(&self) -> String {
        BASE64.encode(&self.commitment().0[..LABEL_BYTES])
    }

    fn wrapping_key(&self, salt: &[u8]) -> Zeroizing<[u8; 32]> {
        let info = [EPOCH_TAG.as_bytes(), &self.commitment().0].concat();
        Zeroizing::new(hkdf(salt, &info, self.to_bytes().as_slice()))
    }
}

// age's trait asks for a `HashSet` of labels; nothing here iterates over it.
#[allow(clippy::disallowed_types, reason = "the signature is age's")]
mod recipient {
    use std::collections::HashSet;

    use super::{
        BASE64, EPOCH_TAG, EncryptError, Engine, EpochKey, ExposeSecret, FileKey, SALT_BYTES, Stanza, aead_encrypt,
    };

    impl age::Recipient for EpochKey {
        fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
            let mut salt = [0; SALT_BYTES];
            getrandom::fill(&mut salt).map_err(|error| EncryptError::Io(std::io::Error::other(error)))?;
            let body = aead_encrypt(&self.wrapping_key(&salt), file_key.expose_secret());
            let stanza = Stanza { tag: EPOCH_TAG.to_owned(), args: vec![self.label(), BASE64.encode(salt)], body };
            // The label keeps age from ever mixing this stanza with one for somebody outside the epoch.
            Ok((vec![stanza], HashSet::from([EPOCH_TAG.to_owned()])))
        }
    }
}

impl age::Identity for EpochKey {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != EPOCH_TAG {
            return None;
        }
        let [label, salt] = stanza.args.as_slice() else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        if *label != self.label() {
            return None;
        }
        let Some(salt) = BASE64.decode(salt).ok().filter(|salt| salt.len() == SALT_BYTES) else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        Some(match aead_decrypt(&self.wrapping_key(&salt), FILE_KEY_BYTES, &stanza.body) {
            Ok(file_key) => {
                let file_key = Zeroizing::new(file_key);
                Ok(FileKey::init_with_mut(|bytes| bytes.copy_from_slice(&file_key)))
            }
            Err(_failed_tag) => Err(DecryptError::DecryptionFailed),
        })
    }
}
