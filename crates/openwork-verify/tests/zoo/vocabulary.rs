//! The distribution over the vocabulary, beside the choice between two candidates.

use openwork_truth::zoo::CaseKind;
use openwork_verify::{CheckId, Status, Verdict};

use crate::known::judge;

#[test]
fn a_circuit_that_is_right_between_the_candidates_alone_is_weak_and_its_verdict_says_so() {
    for &severity in CaseKind::ThirdToken.severities() {
        let report = judge(&CaseKind::ThirdToken.build(severity, 1), 5);
        assert_eq!(report.verdict, Verdict::Weak, "{}", report.text());
        let check = report.check(CheckId::VocabularyTop).unwrap();
        assert_eq!((check.status, check.estimate.unwrap().mean), (Status::Failed, 0.0), "{}", check.explanation);
        let words = "about the choice between the two candidates only";
        assert!(report.reasons.iter().any(|r| r.to_string().contains(words)), "{:?}", report.reasons);
        // Lines of the text break anywhere.
        let text = report.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn true_circuits_agree_with_the_model_over_the_vocabulary() {
    // A program, and all nodes of the model with a third token.
    for seed in [2, 15] {
        let report = judge(&CaseKind::True.build(1.0, seed), 2);
        for id in [CheckId::VocabularyTop, CheckId::VocabularyDivergence] {
            let check = report.check(id).unwrap();
            assert_eq!(check.status, Status::Passed, "seed {seed}: {}", check.explanation);
        }
    }
}
