//! Which new changesets belong to which push.
//!
//! A transaction appends its changesets, so a push is a run of revision numbers. What no hint
//! speaks for is left over: a hook that has not spoken yet, or one that never will.

use std::ops::RangeInclusive;

/// The revision numbers that a push is said to have brought, as they are now.
pub type Span = RangeInclusive<u32>;

/// Which of `new` each push has, and which none has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Of each push, in ascending order.
    pub pushes: Vec<Vec<u32>>,
    /// The rest, in ascending order.
    pub left: Vec<u32>,
}

/// Splits `new`, in ascending order, among `pushes`. `taken` is what earlier pushes have got.
/// Where spans overlap the earlier push has it.
pub fn split(new: &[u32], taken: &[Span], pushes: &[Option<Span>]) -> Split {
    let mut split = Split::default();
    let mut claimed = vec![false; new.len()];
    let within = |span: &Span| {
        let start = new.partition_point(|rev| rev < span.start());
        let end = new.partition_point(|rev| rev <= span.end());
        start..end.max(start)
    };
    for span in taken {
        claimed[within(span)].fill(true);
    }
    for span in pushes {
        let mut revs = Vec::new();
        for at in span.iter().flat_map(&within) {
            if !std::mem::replace(&mut claimed[at], true) {
                revs.push(new[at]);
            }
        }
        split.pushes.push(revs);
    }
    split.left =
        new.iter().zip(claimed).filter(|(_, claimed)| !claimed).map(|(rev, _)| *rev).collect();
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pushes: &[&[u32]], left: &[u32]) -> Split {
        let pushes = pushes.iter().map(|revs| revs.to_vec()).collect();
        Split { pushes, left: left.to_vec() }
    }

    #[test]
    fn each_push_gets_its_own_and_the_rest_is_left() {
        let pushes = [Some(10..=12), Some(14..=14)];
        assert_eq!(
            split(&[10, 11, 12, 13, 14, 15], &[], &pushes),
            of(&[&[10, 11, 12], &[14]], &[13, 15])
        );
    }

    #[test]
    fn what_is_not_new_is_nobodys() {
        let pushes = [Some(3..=5), None];
        assert_eq!(split(&[], &[], &pushes), of(&[&[], &[]], &[]));
        assert_eq!(split(&[5, 6], &[], &pushes), of(&[&[5], &[]], &[6]));
    }

    #[test]
    fn nothing_is_taken_twice() {
        let pushes = [Some(1..=2), Some(2..=3)];
        assert_eq!(split(&[1, 2, 3, 4], &[4..=4], &pushes), of(&[&[1, 2], &[3]], &[]));
    }

    #[test]
    fn a_span_that_ends_before_it_starts_is_empty() {
        // A strip can put the first changeset of a push behind its last.
        #[expect(clippy::reversed_empty_ranges)]
        let pushes = [Some(4..=2)];
        assert_eq!(split(&[1, 2, 3, 4], &[], &pushes), of(&[&[]], &[1, 2, 3, 4]));
    }
}
