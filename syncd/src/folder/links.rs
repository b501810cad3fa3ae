//! Where `links = "inside"` is set, links of other devices that lead out of the folder are not taken.

use protocol::model::{Content, RelPath};
use protocol::sync::{Action, Outcome, Problem, ProblemCode, Step};

/// Whether a link at `path` points somewhere outside the folder: by an absolute target, or by climbing above the root.
fn leads_out(path: &RelPath, target: &[u8]) -> bool {
    if target.first() == Some(&b'/') {
        return true;
    }
    let mut depth = path.components().count() - 1;
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Why this action is not carried out.
pub(super) fn refused(action: &Action) -> Option<Outcome> {
    let Content::Symlink(target) = &action.entry.content else {
        return None;
    };
    let words = "it is a link that leads out of the folder, and links is set to inside here".to_owned();
    let is_refused = action.step == Step::InstallSymlink && leads_out(&action.path, target);
    is_refused.then_some(Outcome::Failed(Problem { code: ProblemCode::Blocked, words }))
}

#[cfg(test)]
mod tests {
    use super::{RelPath, leads_out};

    #[test]
    fn a_link_leads_out_by_an_absolute_target_or_by_climbing() {
        for (path, target, expected) in [
            ("a", "b", false),
            ("a", "/b", true),
            ("a", "..", true),
            ("a", "../a", true),
            ("d/a", "../a", false),
            ("d/a", "../../a", true),
            ("d/e/a", "../../a", false),
            ("d/a", "x/../../a", false),
            ("d/a", "x/../../../a", true),
            ("d/a", "./.././a//b", false),
        ] {
            let at = RelPath::parse(path.as_bytes()).unwrap();
            assert_eq!(leads_out(&at, target.as_bytes()), expected, "{path} -> {target}");
        }
    }
}
