//! The word that was probably meant.

/// The candidate closest to `word`, when one is close enough to be a slip of the fingers.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = candidates.into_iter().filter_map(|candidate| Some((slips(word, candidate)?, candidate)));
    near.min().map(|(_, candidate)| candidate)
}

/// How many slips of the fingers lie between two words, when those are few enough to be that.
pub(super) fn slips(word: &str, candidate: &str) -> Option<usize> {
    // Longer words have room for more slips; a word of three letters is all different after two.
    let slips_max = (word.chars().count() / 3).clamp(1, 3);
    let slips = strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
    (slips <= slips_max).then_some(slips)
}

/// `, did you mean …?` or nothing.
pub(super) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let words = ["platforms", "packages", "go", "flags"];
        assert_eq!(nearest("platfroms", words), Some("platforms"));
        assert_eq!(nearest("Package", words), Some("packages"));
        assert_eq!(nearest("og", words), Some("go"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("", words), None);
    }
}
