//! The order in which jobs can run, or why there is none.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// An order of all jobs, each after what it needs and otherwise as they were given: of those that
/// could come next, the first. `needs[n]` are what job `n` needs.
///
/// The error is cycles: in each, every job needs the next one, and the last the first. Not every
/// cycle there is, but no order exists until all of these are gone, and at most `limit`.
pub(super) fn order(needs: &[Vec<usize>], limit: usize) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut wanted_by = vec![Vec::new(); needs.len()];
    for (job, needed) in needs.iter().enumerate() {
        needed.iter().for_each(|need| wanted_by[*need].push(job));
    }
    let free = |missing: &[usize]| -> BinaryHeap<Reverse<usize>> {
        (0..needs.len()).filter(|job| missing[*job] == 0).map(Reverse).collect()
    };
    let mut ready = free(&missing);
    let mut placed = vec![false; needs.len()];
    let mut order = Vec::with_capacity(needs.len());
    let mut cycles = Vec::new();
    loop {
        while let Some(Reverse(job)) = ready.pop() {
            placed[job] = true;
            order.push(job);
            for next in &wanted_by[job] {
                missing[*next] -= 1;
                if missing[*next] == 0 && !placed[*next] {
                    ready.push(Reverse(*next));
                }
            }
        }
        match placed.iter().position(|placed| !placed) {
            None if cycles.is_empty() => return Ok(order),
            Some(first) if cycles.len() < limit => {
                let cycle = cycle_from(first, needs, &placed);
                // As if its jobs could run, so that what is behind them is looked at too.
                for job in &cycle {
                    if !placed[*job] {
                        placed[*job] = true;
                        ready.push(Reverse(*job));
                    }
                }
                cycles.push(cycle);
            }
            _ => return Err(cycles),
        }
    }
}

/// A cycle that is reached from `start`, beginning with its first job in the order of the file.
/// Every job that is not placed needs another one that is not, so following those must end in one.
fn cycle_from(start: usize, needs: &[Vec<usize>], placed: &[bool]) -> Vec<usize> {
    let mut seen_at = vec![None; needs.len()];
    let mut path = Vec::new();
    let mut job = start;
    loop {
        if let Some(at) = seen_at[job] {
            let mut cycle = path.split_off(at);
            let first = (0..cycle.len()).min_by_key(|n| cycle[*n]).unwrap_or(0);
            cycle.rotate_left(first);
            return cycle;
        }
        seen_at[job] = Some(path.len());
        path.push(job);
        match needs[job].iter().find(|need| !placed[**need]) {
            Some(need) => job = *need,
            // Never so, as said above; an endless loop would be worse than a short answer.
            None => return path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(lists: &[&[usize]]) -> Vec<Vec<usize>> {
        lists.iter().map(|list| list.to_vec()).collect()
    }

    #[test]
    fn jobs_come_as_in_the_file_but_after_what_they_need() {
        assert_eq!(order(&[], 10), Ok(vec![]));
        assert_eq!(order(&needs(&[&[], &[], &[]]), 10), Ok(vec![0, 1, 2]));
        assert_eq!(order(&needs(&[&[1], &[], &[]]), 10), Ok(vec![1, 0, 2]));
        assert_eq!(order(&needs(&[&[2], &[], &[3], &[]]), 10), Ok(vec![1, 3, 2, 0]));
    }

    #[test]
    fn every_knot_is_named_once() {
        assert_eq!(order(&needs(&[&[0]]), 10), Err(vec![vec![0]]));
        let knots = needs(&[&[1], &[2], &[0], &[4], &[3], &[0], &[]]);
        assert_eq!(order(&knots, 10), Err(vec![vec![0, 1, 2], vec![3, 4]]));
        assert_eq!(order(&knots, 1), Err(vec![vec![0, 1, 2]]));
        // The walk starts outside of the cycle.
        assert_eq!(order(&needs(&[&[2], &[2], &[1]]), 10), Err(vec![vec![1, 2]]));
    }
}
