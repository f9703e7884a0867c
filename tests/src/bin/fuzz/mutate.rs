//! Damage to files: bytes, pieces, and the numbers and words that formats stumble over.

/// Random numbers of a case (SplitMix64).
pub struct Random(u64);

impl Random {
    /// The numbers of case `number` of a target.
    pub fn new(target: &str, number: u64) -> Self {
        let name = target
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(name ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Values that text formats stumble over.
const WORDS: [&str; 24] = [
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e308",
    "1e-320",
    "1e999",
    "4611686018427387904",
    "18446744073709551615",
    "9223372036854775808",
    "0.1",
    "true",
    "null",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "\"\\ud800\"",
    "\u{feff}",
    "\0",
    ",",
    "\n",
    "'",
];

/// Values that binary formats stumble over.
const NUMBERS: [u64; 10] =
    [0, 1, 2, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];

/// `bytes` with one to four damages; `others` give pieces to put in.
pub fn damaged(bytes: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        damage(&mut bytes, others, random);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let len = bytes.len();
    let at = random.below(len);
    match random.below(9) {
        0 if len > 0 => bytes[at] ^= 1 << random.below(8),
        1 if len > 0 => bytes[at] = random.below(256) as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..(at + 1 + random.below(64)).min(len))),
        4 => {
            // A number in place of a number, where the text has one.
            let word = WORDS[random.below(WORDS.len())].bytes();
            let is_digit = |&byte: &u8| byte.is_ascii_digit() || byte == b'.';
            let start = at + bytes[at..].iter().position(is_digit).unwrap_or(0);
            let digits = bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
            bytes.splice(start..start + digits, word);
        }
        5 => {
            let width = [1, 2, 4, 8][random.below(4)].min(len - at);
            let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        6 => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len());
            let piece = other[from..].iter().take(1 + random.below(200)).copied().collect::<Vec<_>>();
            bytes.splice(at..at, piece);
        }
        7 => {
            // A piece again and again.
            let piece = bytes[at..(at + 1 + random.below(16)).min(len)].to_vec();
            bytes.splice(at..at, piece.repeat(1 + random.below(200)));
        }
        _ => {
            let word = WORDS[random.below(WORDS.len())].bytes();
            bytes.splice(at..at, word);
        }
    }
}
