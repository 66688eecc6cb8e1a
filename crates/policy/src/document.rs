//! TOML with the position of every key and value, so that all mistakes are found in one run.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    code,
    diagnostic::{Findings, Place},
    nearest::did_you_mean,
    quote::quote,
    text::Text,
};

/// A table of a document.
pub(crate) struct Table<'a> {
    entries: Vec<Entry<'a>>,
    pub(crate) place: Place,
}

/// A key with its value.
pub(crate) struct Entry<'a> {
    text: &'a Text<'a>,
    pub(crate) key: &'a str,
    pub(crate) place: Place,
    value: &'a Spanned<DeValue<'a>>,
}

/// Parses a file; a syntax error is a finding.
pub(crate) fn parse<'a>(text: &'a Text<'a>, findings: &mut Findings) -> Option<Spanned<DeTable<'a>>> {
    match DeTable::parse(text.content) {
        Ok(document) => Some(document),
        Err(error) => {
            let place = text.place(error.span().map_or(0, |span| span.start));
            let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
            findings.add(code::TOML_SYNTAX, &place, message);
            None
        }
    }
}

impl<'a> Table<'a> {
    /// The table at the top of a document.
    pub(crate) fn root(text: &'a Text<'a>, document: &'a Spanned<DeTable<'a>>) -> Self {
        Self::new(text, document.get_ref(), Place::start(&text.file))
    }

    fn new(text: &'a Text<'a>, table: &'a DeTable<'a>, place: Place) -> Self {
        let entry =
            |(key, value): (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| Entry {
                text,
                key: key.get_ref(),
                place: text.place(key.span().start),
                value,
            };
        let mut entries: Vec<_> = table.iter().map(entry).collect();
        // A map is sorted by key; if two clash, the second in the file is the wrong one.
        entries.sort_by_key(|entry| (entry.place.line, entry.place.column));
        Self { entries, place }
    }

    pub(crate) fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry<'a>> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Refuses every key except these.
    pub(crate) fn refuse_others(&self, known: &[&str], findings: &mut Findings) {
        for entry in self.entries.iter().filter(|entry| !known.contains(&entry.key)) {
            let message = format!("{} is not known here", quote(entry.key));
            let help = did_you_mean(entry.key, known.iter().copied())
                .unwrap_or_else(|| format!("known are `{}`", known.join("`, `")));
            findings.advise(code::TOML_KEY, &entry.place, message, help);
        }
    }
}

impl<'a> Entry<'a> {
    /// The position of the value.
    pub(crate) fn value_place(&self) -> Place {
        self.text.place(self.value.span().start)
    }

    /// The value as a text; anything else is a finding.
    pub(crate) fn text(&self, findings: &mut Findings) -> Option<&'a str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.refuse_type("a text", findings);
        }
        text
    }

    /// The value as `true` or `false`; anything else is a finding.
    pub(crate) fn bool(&self, findings: &mut Findings) -> Option<bool> {
        let value = self.value.get_ref().as_bool();
        if value.is_none() {
            self.refuse_type("`true` or `false`", findings);
        }
        value
    }

    /// Whether the value is an empty list.
    pub(crate) fn is_empty_list(&self) -> bool {
        self.value
            .get_ref()
            .as_array()
            .is_some_and(|list| list.is_empty())
    }

    /// The value as a table; anything else is a finding.
    pub(crate) fn table(&self, findings: &mut Findings) -> Option<Table<'a>> {
        let table = self.value.get_ref().as_table();
        if table.is_none() {
            self.refuse_type("a table", findings);
        }
        table.map(|table| Table::new(self.text, table, self.place.clone()))
    }

    /// The value as a list of tables; anything else is a finding.
    pub(crate) fn tables(&self, findings: &mut Findings) -> Vec<Table<'a>> {
        self.list("a list of tables", findings, |item| {
            let place = self.text.place(item.span().start);
            item.get_ref()
                .as_table()
                .map(|table| Table::new(self.text, table, place))
        })
    }

    /// The value as a list of texts with their positions; anything else is a finding.
    pub(crate) fn texts(&self, findings: &mut Findings) -> Vec<(Place, &'a str)> {
        self.list("a list of texts", findings, |item| {
            item.get_ref()
                .as_str()
                .map(|text| (self.text.place(item.span().start), text))
        })
    }

    fn list<T>(
        &self,
        expected: &str,
        findings: &mut Findings,
        read: impl Fn(&'a Spanned<DeValue<'a>>) -> Option<T>,
    ) -> Vec<T> {
        let items: Option<Vec<T>> = self
            .value
            .get_ref()
            .as_array()
            .and_then(|array| array.iter().map(read).collect());
        items.unwrap_or_else(|| {
            self.refuse_type(expected, findings);
            Vec::new()
        })
    }

    fn refuse_type(&self, expected: &str, findings: &mut Findings) {
        let found = self.value.get_ref().type_str();
        let message = format!("{} must be {expected}, not {found}", quote(self.key));
        findings.add(code::TOML_TYPE, &self.value_place(), message);
    }
}
