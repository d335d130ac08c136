//! Patterns of image names, as `allowedImages` has them.

/// Returns `true` if the whole `text` matches `pattern`, in which `*` matches any characters.
pub fn matches_pattern(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_images() {
        for (text, pattern, expected) in [
            ("r.io/a", "r.io/a", true),
            ("r.io/ab", "r.io/a", false),
            ("r.io/miners/kaspa:1", "r.io/miners/*", true),
            ("r.io/other/kaspa:1", "r.io/miners/*", false),
            ("r.io/a/kaspa:1", "r.io/*/kaspa:*", true),
            ("r.io/a/xkaspa:1", "r.io/*/kaspa:*", false),
            ("r.io/aa", "r.io/*a", true),
            ("r.io/", "r.io/*", true),
            ("anything", "*", true),
            ("r.io/a:1", "r.io/*:1*:1", false),
        ] {
            assert_eq!(matches_pattern(text, pattern), expected, "{text} {pattern}");
        }
    }
}
