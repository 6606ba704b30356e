//! The fingerprint of a node's keys as eight words, for two people to compare by telephone.
//!
//! 256 short Dutch words that sound different, one for each byte: eight of them are 64 bits. Whoever wants to
//! put another node in a partner's place must find keys with the same words, which takes 2^64 attempts, within
//! the hours an invitation lasts. This module refuses to know what the comparison decides.

use crate::{
    encoding::{Domain, Hash},
    identity::PublicKey,
    seal::Recipient,
};

/// The words that stand for a node key and its sealing key.
pub fn fingerprint(key: &PublicKey, recipient: &Recipient) -> [&'static str; 8] {
    let hash = Hash::of(Domain::FINGERPRINT, &[&key.0, &recipient.0]);
    std::array::from_fn(|place| WORDS[usize::from(hash.0[place])])
}

/// In alphabetical order. To change one is to change fingerprints that people wrote down.
#[rustfmt::skip]
const WORDS: [&str; 256] = [
    "aap", "adder", "advies", "altaar", "anker", "appel", "arena", "atlas", "auto", "avond", "azijn", "baard",
    "bakker", "balkon", "bamboe", "banaan", "banjo", "bazuin", "beker", "berg", "beton", "bezem", "biscuit",
    "blad", "blauw", "bliksem", "bloem", "boek", "boerin", "bos", "boter", "brief", "brug", "bruin", "buik",
    "bureau", "cactus", "cello", "cider", "circus", "citroen", "clown", "cobra", "dadel", "dak", "damhert", "deur",
    "dijk", "dolfijn", "doos", "dorp", "draak", "druif", "duizend", "eekhoorn", "eend", "egel", "eiland", "eiwit",
    "elastiek", "emmer", "etalage", "fabriek", "fakkel", "familie", "fazant", "feest", "fiets", "figuur", "filter",
    "flamingo", "fluit", "fontein", "fornuis", "framboos", "galerij", "gans", "garage", "gazon", "gebak", "gebouw",
    "geluk", "gember", "gewicht", "gieter", "giraf", "gitaar", "glas", "gletsjer", "gordijn", "gorilla", "graan",
    "groen", "groente", "haas", "hagel", "hal", "hamer", "haring", "haven", "heide", "helm", "hengel", "herder",
    "herfst", "heuvel", "hond", "honing", "hooi", "horloge", "hotel", "hut", "iglo", "ijsbeer", "inktvis",
    "insect", "ivoor", "jaar", "jager", "jas", "jongen", "jungle", "juweel", "kaars", "kabel", "kalkoen", "kameel",
    "kanaal", "kapper", "kasteel", "kelder", "kers", "ketting", "kiezel", "kikker", "kip", "klaver", "klei",
    "klok", "knie", "koekoek", "koffie", "kompas", "konijn", "koor", "kreeft", "krijt", "krokus", "kuiken",
    "kussen", "kwartel", "kwast", "lamp", "lantaarn", "leeuw", "lente", "lepel", "liniaal", "lucht", "magneet",
    "mand", "markt", "masker", "melk", "merel", "mier", "mol", "molen", "mosterd", "muis", "muziek", "naald",
    "nacht", "neus", "noord", "oester", "oever", "olifant", "onweer", "oog", "orgel", "oven", "paleis", "panter",
    "papier", "parel", "peer", "pinda", "pizza", "ploeg", "poort", "prins", "puzzel", "rabarber", "radio", "regen",
    "ridder", "rivier", "robijn", "rugzak", "saffier", "salade", "schaap", "schip", "sjaal", "slak", "sleutel",
    "smid", "sneeuw", "sok", "specht", "spiegel", "spons", "stad", "stoel", "storm", "strand", "suiker", "taart",
    "tafel", "tempel", "tijger", "toren", "trap", "trein", "trommel", "tuin", "tulp", "tunnel", "uil", "vader",
    "vlag", "vlieger", "vlinder", "vogel", "vork", "vrucht", "vuur", "wagen", "walvis", "water", "week", "wiel",
    "wind", "winter", "wortel", "zalm", "zebra", "zee", "zeil", "zilver", "zomer", "zon", "zout", "zuid", "zwaan",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// How many letters must be put in, taken out or changed to make one word of the other.
    fn distance(a: &str, b: &str) -> usize {
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.bytes().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], i + 1);
            for (j, y) in b.bytes().enumerate() {
                let above = row[j + 1];
                row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
                diagonal = above;
            }
        }
        row[b.len()]
    }

    #[test]
    fn words_are_short_and_plain() {
        for word in WORDS {
            assert!((3..=8).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase()), "{word}");
        }
    }

    #[test]
    fn no_slip_of_one_letter_makes_one_word_of_another() {
        assert_eq!(distance("tuin", "tulp"), 2);
        for (place, a) in WORDS.iter().enumerate() {
            for b in &WORDS[place + 1..] {
                assert!(distance(a, b) >= 2, "{a} and {b}");
                assert!(a < b, "{a} stands before {b}");
            }
        }
    }

    #[test]
    fn another_node_key_or_sealing_key_has_another_fingerprint() {
        let shown = |key, recipient| fingerprint(&PublicKey([key; 32]), &Recipient([recipient; 32]));
        assert_eq!(shown(1, 2), shown(1, 2));
        assert_ne!(shown(1, 2), shown(2, 2));
        assert_ne!(shown(1, 2), shown(1, 1));
        assert_ne!(shown(1, 2), shown(2, 1));
    }
}
