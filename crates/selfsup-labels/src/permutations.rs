//! Permutations that are far apart, for jigsaw puzzles.
//!
//! Noroozi and Favaro 2016, algorithm 1: to the chosen permutations is added, again and again, the one whose Hamming
//! distances to all of them have the largest sum. Where several have, the paper does not say which; here it is the one
//! that is farthest from its nearest neighbour, and of those the first in lexicographic order. The first choice is the
//! identity where the paper draws it, so that the set is a function of its size alone.

/// The first `count` permutations of `0..n` by the greedy choice; `n` is at most 9 and `count` at most `n!`.
pub(crate) fn far_apart(n: usize, count: usize) -> Vec<Vec<u8>> {
    let all = every(n);
    let mut sums = vec![0_i32; all.len()];
    let mut least = vec![u8::MAX; all.len()];
    let mut chosen: Vec<Vec<u8>> = Vec::with_capacity(count);
    let mut next = 0;
    while chosen.len() < count {
        let last = all[next];
        chosen.push((0..n).map(|place| ((last >> (4 * place)) & 15) as u8).collect());
        // It is not chosen again: whatever is added to it stays below every other sum, which is at least 0.
        sums[next] = i32::MIN / 2;
        let mut best = (i32::MIN, 0);
        for (i, &other) in all.iter().enumerate() {
            let distance = hamming(last, other);
            sums[i] += i32::from(distance);
            least[i] = least[i].min(distance);
            if (sums[i], least[i]) > best {
                best = (sums[i], least[i]);
                next = i;
            }
        }
    }
    chosen
}

/// The places at which two permutations differ.
fn hamming(a: u64, b: u64) -> u8 {
    let differ = a ^ b;
    let one_bit_each = (differ | (differ >> 1) | (differ >> 2) | (differ >> 3)) & 0x1111_1111_1111_1111;
    one_bit_each.count_ones() as u8
}

/// All permutations of `0..n` in lexicographic order, four bits for each place, the first place lowest.
fn every(n: usize) -> Vec<u64> {
    let mut all = Vec::new();
    let mut order: Vec<usize> = (0..n).collect();
    loop {
        all.push(
            order
                .iter()
                .enumerate()
                .fold(0, |packed, (place, &value)| packed | (value as u64) << (4 * place)),
        );
        let Some(i) = (1..n).rev().find(|&i| order[i - 1] < order[i]) else { return all };
        if let Some(j) = (i..n).rev().find(|&j| order[j] > order[i - 1]) {
            order.swap(i - 1, j);
        }
        order[i..].reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(a: &[u8], b: &[u8]) -> usize {
        a.iter().zip(b).filter(|(a, b)| a != b).count()
    }

    #[test]
    fn lists_every_permutation_once_and_in_order() {
        let all = every(4);
        assert_eq!(all.len(), 24);
        assert_eq!((all[0], all[1], all[23]), (0x3210, 0x2310, 0x0123));
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 24);
    }

    #[test]
    fn chooses_as_a_loop_over_the_definition() {
        let all: Vec<Vec<u8>> =
            every(4).into_iter().map(|p| (0..4).map(|i| ((p >> (4 * i)) & 15) as u8).collect()).collect();
        let mut chosen = vec![all[0].clone()];
        while chosen.len() < 24 {
            let rank = |p: &Vec<u8>| {
                let distances = chosen.iter().map(|c| distance(c, p));
                (distances.clone().sum::<usize>(), distances.min())
            };
            let open = all.iter().filter(|p| !chosen.contains(p));
            // `max_by_key` takes the last of equals, and the first is wanted.
            chosen.push(open.rev().max_by_key(|p| rank(p)).unwrap().clone());
        }
        assert_eq!(far_apart(4, 24), chosen);
    }

    #[test]
    fn begins_as_the_greedy_choice_of_the_published_script() {
        // P = np.array(list(itertools.permutations(range(9)))); total = np.zeros(len(P)); j = 0
        // for _ in range(9): print(P[j]); total += (P != P[j]).sum(1); total[j] = -1e9; j = total.argmax()
        // (select_permutations.py of the PyTorch port begins at a random j; ties do not matter until the tenth.)
        let found = far_apart(9, 40);
        let expected = [
            [0, 1, 2, 3, 4, 5, 6, 7, 8],
            [1, 0, 3, 2, 5, 4, 7, 8, 6],
            [2, 3, 0, 1, 6, 7, 8, 4, 5],
            [3, 2, 1, 0, 7, 8, 5, 6, 4],
            [4, 5, 6, 7, 8, 0, 1, 2, 3],
            [5, 4, 7, 8, 0, 6, 2, 3, 1],
            [6, 7, 8, 4, 1, 2, 3, 5, 0],
            [7, 8, 5, 6, 3, 1, 4, 0, 2],
            [8, 6, 4, 5, 2, 3, 0, 1, 7],
        ];
        assert_eq!(found[..9], expected);
        // The first nine share no place; later ones cannot all be so. The first of ties would be 2 away from another.
        let least = |set: &[Vec<u8>]| {
            let pairs = (0..set.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
            pairs.map(|(i, j)| distance(&set[i], &set[j])).min()
        };
        assert_eq!(least(&found[..9]), Some(9));
        assert_eq!(least(&found), Some(5));
    }
}
