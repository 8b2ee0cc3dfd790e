//! Which known words a misspelt one may have meant, by edit distance.
//!
//! Small and allocation-light on purpose: it only ever serves error texts. Callers bound the input's length,
//! since the distance takes time in the product of both lengths.

/// The number of single-character insertions, deletions, replacements and swaps of neighbours that turn one
/// text into the other (bytes, since every word that is compared is ASCII).
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i);
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// At most `count` of `words` that are near enough to `text` to be worth naming, nearest first.
///
/// Near enough is a third of the text's length, and no farther than twice the nearest one.
#[must_use]
pub fn nearest<'a>(text: &str, words: &[&'a str], count: usize) -> Vec<&'a str> {
    let limit = text.len().div_ceil(3);
    let mut near: Vec<(usize, &'a str)> =
        words.iter().map(|word| (distance(text, word), *word)).filter(|(far, _)| *far <= limit).collect();
    near.sort_unstable();
    let least = near.first().map_or(0, |(far, _)| *far);
    near.into_iter().take_while(|(far, _)| *far <= least * 2).take(count).map(|(_, word)| word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_edits_and_swaps() {
        for (a, b, far) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("amd46", "amd64", 1),
            ("arm", "arm64", 2),
        ] {
            assert_eq!(distance(a, b), far, "{a} {b}");
            assert_eq!(distance(b, a), far, "{b} {a}");
        }
    }

    #[test]
    fn only_words_that_may_have_been_meant_are_named() {
        let words = ["build", "builds", "cancel"];
        assert_eq!(nearest("biuld", &words, 3), ["build", "builds"]);
        assert_eq!(nearest("biuld", &words, 1), ["build"]);
        assert_eq!(nearest("zzz", &words, 3), [""; 0]);
        assert_eq!(nearest("build", &words, 3), ["build"]);
    }
}
