//! The codes of diagnostics: stable, so that a script or a runbook can name them.

/// Defines each code once: a constant for the loader, and a row of [`CODES`].
macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal;)*) => {
        $(pub(crate) const $name: &str = $code;)*

        /// Every code with its meaning, in order. `docs/policies.md` has this table with remedies.
        pub const CODES: &[(&str, &str)] = &[$(($code, $title)),*];
    };
}

codes! {
    UNREADABLE = "P001", "a file or directory is missing or can't be read";
    TOO_LARGE = "P002", "a file or a line is too long, or there are too many files or rules";
    NOT_UTF8 = "P003", "a file is not UTF-8";
    BYTE_ORDER_MARK = "P004", "a file begins with a byte order mark";
    CONTROL_CHARACTER = "P005", "a control or invisible character";
    STRAY_FILE = "P006", "a file that is no part of a policy";
    LINK_OUT = "P007", "a link that leads out of the policy's directory";
    SECRET = "P008", "something that has the shape of a secret";
    MODEL_SYNTAX = "P010", "a line of the model is neither `[section]` nor `name = value`";
    MODEL_OTHER = "P011", "a definition of the model is not sound";
    MODEL_EFFECT = "P012", "an effect that casbin does not know, or that allows where no rule matches";
    MODEL_MATCHER = "P013", "the matcher does not compile, or uses what is not supported";
    MODEL_EVAL = "P014", "the matcher uses `eval`";
    MODEL_SECOND = "P015", "the model has a second definition, such as `g2`";
    MODEL_INCOMPLETE = "P016", "the model lacks a definition";
    TOML_SYNTAX = "P020", "a file is not TOML";
    TOML_KEY = "P021", "an unknown table or key";
    TOML_TYPE = "P022", "a value of the wrong type";
    CATALOGUE_NAME = "P023", "a name of the catalogue is spelled wrongly";
    CATALOGUE_TWICE = "P024", "two scopes of the catalogue are the same but for the parameter's name";
    CATALOGUE_RESERVED = "P025", "the catalogue defines something below `tessera`";
    CATALOGUE_DESCRIPTION = "P026", "a name of the catalogue has no description";
    CATALOGUE_EMPTY = "P027", "the catalogue lacks a table, or has an empty one";
    RULE_KIND = "P030", "a rule begins with something other than `p` or `g`";
    RULE_FIELDS = "P031", "a rule has the wrong number of fields";
    RULE_QUOTE = "P032", "a quote in a rule";
    RULE_COMMENT = "P033", "a comment behind a rule";
    RULE_EFFECT = "P034", "an effect other than `allow` or `deny`";
    RULE_EMPTY_FIELD = "P035", "an empty field in a rule";
    NAME = "P036", "a subject is spelled wrongly";
    UNKNOWN_ROLE = "P037", "a role that the catalogue does not have";
    UNKNOWN_REALM = "P038", "a realm that the catalogue does not have";
    RULE_OBJECT = "P039", "a resource is spelled wrongly, or its `*` is not at the end";
    RULE_ACTION = "P040", "an action is spelled wrongly";
    UNKNOWN_SCOPE = "P041", "no scope of the catalogue matches";
    RULE_REACH = "P042", "a pattern that allows reaches into `tessera/` without naming it";
    RULE_TWICE = "P043", "a rule is there twice";
    ROLE_CYCLE = "P044", "roles form a cycle";
    ROLE_CHAIN = "P045", "a chain of roles is too long";
    ROLE_TARGET = "P046", "a `g` rule gives something other than a role";
    NO_RULES = "P047", "the policy has no `p` rule";
    TOKEN_SIZE = "P048", "a warning: more scopes for one role or subject than an access token holds";
    TEST_FAILED = "P050", "a policy test fails";
    TEST_INCOMPLETE = "P051", "a policy test lacks a key, or asks nothing";
    TEST_TWICE = "P052", "two policy tests have the same name";
    CASBIN = "P060", "casbin refuses the policy";
    DEFECT = "P061", "a defect: the compiled index and casbin disagree";
    ROUTE_INCOMPLETE = "P070", "a route lacks a key, or has keys that contradict each other";
    ROUTE_PATH = "P071", "a path of a route is spelled wrongly";
    ROUTE_HOST = "P072", "a host of a route is spelled wrongly";
    ROUTE_METHOD = "P073", "a method of a route is spelled wrongly";
    ROUTE_PARAMETER = "P074", "a scope of a route has a parameter that its path does not have";
    ROUTE_COVERED = "P075", "a route that is never used";
    UNKNOWN_AUDIENCE = "P076", "an audience that the catalogue does not have";
}
