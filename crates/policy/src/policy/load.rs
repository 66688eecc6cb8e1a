//! From files to a policy: read, check, compile, test, compare.

use std::collections::HashMap;

use super::Policy;
use crate::{
    catalogue::{self, Catalogue},
    code,
    diagnostic::{Findings, Place, PolicyError},
    index::Index,
    model::{self, Model},
    oracle::RawQuestion,
    quote::quote_title,
    roles,
    rule::{self, Rules},
    sample,
    served::{self, Served},
    sources::{self, Sources},
    suite::{self, Case},
    text::Text,
};

impl Policy {
    /// The same from files that were read before.
    ///
    /// # Errors
    /// Fails with everything that is not exactly right, and with tests that fail.
    pub fn from_sources(sources: &Sources) -> Result<Self, PolicyError> {
        let mut findings = Findings::default();
        let parsed = parse(sources, &mut findings);
        findings.into_result()?;
        let Parsed {
            model,
            catalogue,
            rules,
            cases,
        } = parsed.ok_or_else(|| defect("the files were neither refused nor read"))?;
        let index = Index::new(&rules, catalogue.realms());
        let served = if model.is_ours {
            None
        } else {
            let mut findings = Findings::default();
            served::probe(&model, &rules, catalogue.realms(), &mut findings);
            findings.into_result()?;
            Some(Served::new(&model, &rules, catalogue.realms()).map_err(|_| refused())?)
        };
        let policy = Self {
            sources: sources.clone(),
            revision: sources.revision(),
            catalogue,
            rules,
            index,
            served,
            cases,
        };
        policy.run_tests()?;
        policy.compare_with_casbin()?;
        Ok(policy)
    }

    /// Runs the policy's own tests.
    fn run_tests(&self) -> Result<(), PolicyError> {
        let mut findings = Findings::default();
        for (case, expectation) in each(&self.cases) {
            let question = case.question(expectation);
            let decision = self.answer_raw(&question);
            if decision.is_allowed() == expectation.is_allowed {
                continue;
            }
            let place = decision.rule().and_then(|number| self.rules.place(number));
            let why = match (decision.failed, place) {
                (Some(number), _) => self.failure(number),
                (None, Some(place)) => format!("see {place}"),
                (None, None) => "no rule allows it".to_owned(),
            };
            let is = if expectation.is_allowed {
                "denied"
            } else {
                "allowed"
            };
            let message = format!(
                "the test {} fails: {} is {is}",
                quote_title(&case.name),
                expectation.scope
            );
            findings.advise(code::TEST_FAILED, &expectation.place, message, why);
        }
        findings.into_result()
    }

    /// Asks Casbin whether it agrees.
    fn compare_with_casbin(&self) -> Result<(), PolicyError> {
        // Where Casbin itself answers, there is nothing to compare it with.
        if !self.is_compiled() {
            return Ok(());
        }
        let realms = self.catalogue.realms();
        let mut findings = Findings::default();
        let first: Vec<RawQuestion<'_>> = each(&self.cases)
            .map(|(case, expectation)| case.question(expectation))
            .collect();
        let _asked = sample::compare(&self.index, &self.rules, realms, &first, &mut findings);
        findings.into_result()
    }
}

/// Every expectation with its test.
pub(crate) fn each(cases: &[Case]) -> impl Iterator<Item = (&Case, &suite::Expectation)> {
    cases.iter().flat_map(|case| {
        case.expectations
            .iter()
            .map(move |expectation| (case, expectation))
    })
}

/// What the files say.
struct Parsed {
    model: Model,
    catalogue: Catalogue,
    rules: Rules,
    cases: Vec<Case>,
}

/// Reads everything that can be read, so that all mistakes are found in one go.
fn parse(sources: &Sources, findings: &mut Findings) -> Option<Parsed> {
    let model = Text::read(sources::MODEL, sources.get(sources::MODEL)?, findings)
        .map_or_else(Model::ours, |text| model::read(&text, findings));
    // Without a catalogue every name would be unknown.
    let text = Text::read(sources::CATALOGUE, sources.get(sources::CATALOGUE)?, findings)?;
    let catalogue = catalogue::read::read(&text, findings)?;
    let texts: Vec<Text<'_>> = sources
        .rules()
        .filter_map(|(name, bytes)| Text::read(name, bytes, findings))
        .collect();
    let mut reader = rule::read::Reader::new(&catalogue, &model, findings);
    for text in &texts {
        reader.read(text);
    }
    let rules = reader.finish();
    roles::check(&rules.edges, catalogue.realms(), findings);
    let mut names = HashMap::new();
    let mut cases = Vec::new();
    for (name, bytes) in sources.tests() {
        if let Some(text) = Text::read(name, bytes, findings) {
            cases.extend(suite::read(&text, &catalogue, &mut names, findings));
        }
    }
    Some(Parsed {
        model,
        catalogue,
        rules,
        cases,
    })
}

/// What Casbin says repeats the files, so it is not passed on.
fn refused() -> PolicyError {
    let place = Place::start(sources::MODEL);
    PolicyError::of(code::CASBIN, &place, "casbin refuses the policy", None)
}

fn defect(message: &str) -> PolicyError {
    let place = Place::start("policy.csv");
    PolicyError::of(code::DEFECT, &place, format!("a defect: {message}"), None)
}
