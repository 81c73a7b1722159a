//! New inputs from old ones.

/// Makes inputs. The same seed makes the same ones.
pub struct Mutator<'a> {
    random: Random,
    words: &'a [&'a [u8]],
    max_len: usize,
}

/// Bytes that mean something to most parsers.
const BYTES: &[u8] = b"\0\x01\x7f\x80\xff\t\n\r \"'\\/.,:;=<>[](){}&#-+_0129aZ\xc3\xe2\xf0\xbf";

impl<'a> Mutator<'a> {
    pub fn new(seed: u64, words: &'a [&'a [u8]], max_len: usize) -> Self {
        Mutator { random: Random(seed), words, max_len }
    }

    /// One of `kept`, with one change or several.
    pub fn mutate(&mut self, kept: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.random.pick(kept).cloned().unwrap_or_default();
        // Mostly short: what is wrong with a long input is mostly wrong with a short one too.
        let longest = self.max_len >> self.random.below(8);
        let changes = 1 << self.random.below(6);
        for _ in 0..self.random.below(changes) + 1 {
            self.change(&mut input, kept, longest);
        }
        input.truncate(longest);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, kept: &[Vec<u8>], longest: usize) {
        let at = self.random.below(input.len() + 1);
        let part = at..at + self.random.below((input.len() - at).min(64) + 1);
        match self.random.below(12) {
            0 => flip(input, at, 1 << self.random.below(8)),
            1 => set(input, at, self.random.next() as u8),
            2 => set(input, at, self.random.pick(BYTES).copied().unwrap_or_default()),
            3 => drop(input.drain(part)),
            4 => input.truncate(at),
            5 => {
                let byte = self.random.pick(BYTES).copied().unwrap_or_default();
                input.insert(at, byte);
            }
            6 | 7 => {
                let word = self.random.pick(self.words).copied().unwrap_or_default();
                input.splice(at..at, word.iter().copied());
            }
            8 => {
                let word = self.random.pick(self.words).copied().unwrap_or_default();
                input.splice(part, word.iter().copied());
            }
            9 => {
                // Copied elsewhere.
                let copy = input[part].to_vec();
                let to = self.random.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            10 => {
                // Repeated, which makes what is deep and what is long.
                let copy = input[part].to_vec();
                let times = 1 << self.random.below(12);
                let room = longest.saturating_sub(input.len()) / copy.len().max(1);
                input.splice(at..at, copy.repeat(times.min(room)));
            }
            _ => {
                // The tail of another one.
                let other = self.random.pick(kept).map(Vec::as_slice).unwrap_or_default();
                let from = self.random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}

fn flip(input: &mut [u8], at: usize, bit: u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= bit;
    }
}

fn set(input: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = value;
    }
}

/// SplitMix64: small, and good enough to choose with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn pick<'s, T>(&mut self, from: &'s [T]) -> Option<&'s T> {
        from.get(self.below(from.len()))
    }
}
