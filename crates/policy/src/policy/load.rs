//! Making a policy from files: read, check, compile, test, compare.

use std::{collections::HashMap, path::Path};

use super::answers::Policy;
use crate::{
    catalogue::{self, Catalogue},
    code,
    diagnostic::{Findings, Place, PolicyError},
    index::Index,
    load_error::LoadError,
    model::{self, Model},
    oracle::RawQuestion,
    quote::quote_title,
    roles,
    routes::{self, Routes, case::CallCase},
    rule::Rules,
    rule_file, sample,
    served::{self, AskingFor, Served},
    sources::{self, Sources},
    suite::{self, Case},
    text::Text,
    work::Work,
};

impl Policy {
    /// Reads a directory: `model.conf`, `catalogue.toml`, `routes.toml` if it exists, `*.csv` in name order,
    /// `tests/*.toml`. Blocking.
    ///
    /// # Errors
    /// Fails with everything that is wrong: files that can't be read, content that is not valid, tests that fail.
    pub fn load(directory: &Path) -> Result<Self, PolicyError> {
        Self::from_sources(&Sources::read(directory)?)
    }

    /// Reads a directory as [`Policy::load`] does, as work that can be stopped. Blocking.
    ///
    /// # Errors
    /// Fails as [`Policy::load`] does, and if it is stopped.
    pub fn load_within(directory: &Path, work: &Work) -> Result<Self, LoadError> {
        Self::from_sources_within(&Sources::read(directory)?, work)
    }

    /// The same from memory: names such as `policy.csv` or `tests/x.toml`, with contents.
    ///
    /// # Errors
    /// Fails as [`Policy::load`] does.
    pub fn from_files(files: &[(&str, &[u8])]) -> Result<Self, PolicyError> {
        Self::from_sources(&Sources::from_memory(files)?)
    }

    /// The same from files that are already read.
    ///
    /// # Errors
    /// Fails with everything that is not valid, and with tests that fail.
    pub fn from_sources(sources: &Sources) -> Result<Self, PolicyError> {
        match Self::from_sources_within(sources, &Work::unbounded()) {
            Ok(policy) => Ok(policy),
            Err(LoadError::Refused(error)) => Err(error),
            Err(LoadError::Stopped) => Err(defect("reading was stopped, though nobody could stop it")),
        }
    }

    /// The same as work that can be stopped.
    ///
    /// # Errors
    /// Fails as [`Policy::from_sources`] does, and if it is stopped.
    pub fn from_sources_within(sources: &Sources, work: &Work) -> Result<Self, LoadError> {
        let _asking = AskingFor::new(work);
        let mut findings = Findings::of(work);
        let parsed = parse(sources, &mut findings);
        work.check()?;
        findings.into_result()?;
        let Parsed {
            model,
            catalogue,
            rules,
            cases,
            calls,
            routes,
        } = parsed.ok_or_else(|| defect("the files were neither refused nor read"))?;
        let index = Index::within(&rules, catalogue.realms(), work);
        work.check()?;
        let served = if model.is_ours {
            None
        } else {
            Some(serve(&model, &rules, &catalogue, work)?)
        };
        let policy = Self {
            sources: sources.clone(),
            revision: sources.revision(),
            catalogue,
            rules,
            index,
            served,
            cases,
            calls,
            routes,
        };
        policy.run_tests(work)?;
        policy.compare_with_casbin(work)?;
        Ok(policy)
    }

    /// Runs the policy's own tests.
    fn run_tests(&self, work: &Work) -> Result<(), LoadError> {
        let mut findings = Findings::of(work);
        for (case, expectation) in each(&self.cases) {
            work.check()?;
            let question = case.question(expectation);
            let decision = self.answer_raw(&question);
            work.check()?;
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
        for call in &self.calls {
            work.check()?;
            call.run(self.routes.as_ref(), &mut findings);
        }
        Ok(findings.into_result()?)
    }

    /// Checks that Casbin agrees.
    fn compare_with_casbin(&self, work: &Work) -> Result<(), LoadError> {
        // If Casbin itself answers, there is nothing to compare.
        if !self.is_compiled() {
            return Ok(());
        }
        let realms = self.catalogue.realms();
        let mut findings = Findings::of(work);
        let first: Vec<RawQuestion<'_>> = each(&self.cases)
            .map(|(case, expectation)| case.question(expectation))
            .collect();
        let _asked = sample::compare(&self.index, &self.rules, realms, &first, &mut findings);
        work.check()?;
        Ok(findings.into_result()?)
    }
}

/// Gives the rules of another model to Casbin, and checks that it can answer.
fn serve(model: &Model, rules: &Rules, catalogue: &Catalogue, work: &Work) -> Result<Served, LoadError> {
    let mut findings = Findings::of(work);
    served::probe(model, rules, catalogue.realms(), work, &mut findings);
    work.check()?;
    findings.into_result()?;
    let served = Served::within(model, rules, catalogue.realms(), work);
    work.check()?;
    Ok(served.map_err(|_| refused())?)
}

/// Every expectation with its test.
pub(crate) fn each(cases: &[Case]) -> impl Iterator<Item = (&Case, &suite::Expectation)> {
    cases.iter().flat_map(|case| {
        case.expectations
            .iter()
            .map(move |expectation| (case, expectation))
    })
}

/// The parsed files.
struct Parsed {
    model: Model,
    catalogue: Catalogue,
    rules: Rules,
    cases: Vec<Case>,
    calls: Vec<CallCase>,
    routes: Option<Routes>,
}

/// Reads everything that can be read, so that all mistakes are found in one run.
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
    let mut reader = rule_file::Reader::new(&catalogue, &model, findings);
    for text in &texts {
        reader.read(text);
    }
    let rules = reader.finish();
    let routes = sources
        .get(sources::ROUTES)
        .and_then(|bytes| Text::read(sources::ROUTES, bytes, findings))
        .and_then(|text| routes::read::read(&text, &catalogue, findings));
    roles::check(&rules.edges, catalogue.realms(), findings);
    let mut names = HashMap::new();
    let (mut cases, mut calls) = (Vec::new(), Vec::new());
    for (name, bytes) in sources.tests() {
        if findings.is_full() {
            break;
        }
        if let Some(text) = Text::read(name, bytes, findings) {
            let tests = suite::read(&text, &catalogue, &mut names, findings);
            cases.extend(tests.cases);
            calls.extend(tests.calls);
        }
    }
    Some(Parsed {
        model,
        catalogue,
        rules,
        cases,
        calls,
        routes,
    })
}

/// Casbin's message repeats the files, so it is not passed on.
fn refused() -> PolicyError {
    let place = Place::start(sources::MODEL);
    PolicyError::of(code::CASBIN, &place, "casbin refuses the policy", None)
}

fn defect(message: &str) -> PolicyError {
    let place = Place::start("policy.csv");
    PolicyError::of(code::DEFECT, &place, format!("a defect: {message}"), None)
}
