//! `docs/api.md` is rendered from the protos, and matches them.
//!
//! `UPDATE_DOCS=1 cargo test -p tessera-proto --test it api_reference` renders it again.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto, field_descriptor_proto::Type,
};

use crate::support::root;

const HEAD: &str = "# API reference\n\n\
    Rendered from [proto/tessera/v1](../proto/tessera/v1): every RPC, field and reason, with who may call it. Do not edit \
    this page; `UPDATE_DOCS=1 cargo test -p tessera-proto --test it api_reference` writes it.\n";

/// The comments of a file, by the path of their element.
struct Comments(BTreeMap<Vec<i32>, String>);

// The field numbers of descriptors, which form a path.
const MESSAGES: i32 = 4;
const ENUMS: i32 = 5;
const SERVICES: i32 = 6;
const FIELDS: i32 = 2;
const NESTED_MESSAGES: i32 = 3;
const NESTED_ENUMS: i32 = 4;

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        Self(
            locations
                .filter(|location| location.leading_comments.is_some())
                .map(|location| (location.path.clone(), location.leading_comments().to_owned()))
                .collect(),
        )
    }

    fn at(&self, path: &[i32]) -> String {
        let text = self.0.get(path).map_or("", String::as_str);
        text.lines()
            .map(str::trim)
            .collect::<Vec<_>>()
            .join(" ")
            .trim()
            .to_owned()
    }
}

struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        let comments = Comments::of(file);
        for (index, service) in (0..).zip(&file.service) {
            self.service(service, &comments, index);
        }
        for (index, message) in (0..).zip(&file.message_type) {
            self.message(message, "", &comments, &[MESSAGES, index]);
        }
        for (index, kind) in (0..).zip(&file.enum_type) {
            self.kind(kind, "", &comments, &[ENUMS, index]);
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto, comments: &Comments, index: i32) {
        let _ = write!(
            self.text,
            "\n## {}\n\n{}\n",
            service.name(),
            comments.at(&[SERVICES, index])
        );
        for (number, method) in (0..).zip(&service.method) {
            self.method(method, &comments.at(&[SERVICES, index, FIELDS, number]));
        }
    }

    fn method(&mut self, method: &MethodDescriptorProto, comment: &str) {
        let stream = |is_stream: bool| if is_stream { "stream of " } else { "" };
        let (input, output) = (short(method.input_type()), short(method.output_type()));
        let _ = write!(
            self.text,
            "\n### {}\n\n{}[{input}](#{}) → {}[{output}](#{})\n\n{comment}\n",
            method.name(),
            stream(method.client_streaming()),
            anchor(input),
            stream(method.server_streaming()),
            anchor(output),
        );
    }

    fn message(&mut self, message: &DescriptorProto, outer: &str, comments: &Comments, path: &[i32]) {
        if message
            .options
            .as_ref()
            .is_some_and(prost_types::MessageOptions::map_entry)
        {
            return;
        }
        let name = format!("{outer}{}", message.name());
        let _ = write!(self.text, "\n#### {name}\n\n{}\n", comments.at(path));
        if !message.field.is_empty() {
            self.line("\n| field | type | |\n|---|---|---|");
        }
        for (index, field) in (0..).zip(&message.field) {
            let comment = comments.at(&[path, &[FIELDS, index]].concat());
            let one_of = match field.oneof_index.filter(|_| !field.proto3_optional()) {
                Some(index) => {
                    let of = message.oneof_decl.get(usize::try_from(index).unwrap());
                    format!(" (one of `{}`)", of.unwrap().name())
                }
                None => String::new(),
            };
            let line = format!("| `{}` | {} | {comment}{one_of} |", field.name(), type_of(field));
            self.line(&line);
        }
        let outer = format!("{name}.");
        for (index, nested) in (0..).zip(&message.nested_type) {
            self.message(
                nested,
                &outer,
                comments,
                &[path, &[NESTED_MESSAGES, index]].concat(),
            );
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            self.kind(nested, &outer, comments, &[path, &[NESTED_ENUMS, index]].concat());
        }
    }

    fn kind(&mut self, kind: &EnumDescriptorProto, outer: &str, comments: &Comments, path: &[i32]) {
        let _ = write!(
            self.text,
            "\n#### {outer}{}\n\n{}\n",
            kind.name(),
            comments.at(path)
        );
        self.line("\n| value | number | |\n|---|---|---|");
        for (index, value) in (0..).zip(&kind.value) {
            let comment = comments.at(&[path, &[FIELDS, index]].concat());
            let line = format!("| `{}` | {} | {comment} |", value.name(), value.number());
            self.line(&line);
        }
    }
}

/// The name of a type without its package, if it is one of Tessera's.
fn short(name: &str) -> &str {
    name.strip_prefix(".tessera.v1.")
        .unwrap_or(name.trim_start_matches('.'))
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(name: &str) -> String {
    name.to_lowercase().replace('.', "")
}

fn type_of(field: &FieldDescriptorProto) -> String {
    let name = match field.r#type() {
        Type::Message | Type::Enum => {
            let name = field.type_name();
            match name.strip_prefix(".tessera.v1.") {
                Some(own) if !own.ends_with("Entry") => format!("[{own}](#{})", anchor(own)),
                Some(_) => return "map of strings".to_owned(),
                None => format!("`{}`", short(name)),
            }
        }
        scalar => format!(
            "`{}`",
            scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase()
        ),
    };
    if field.label() == prost_types::field_descriptor_proto::Label::Repeated {
        format!("list of {name}")
    } else {
        name
    }
}

#[test]
fn the_page_is_what_the_protos_say() {
    let set = FileDescriptorSet::decode(tessera_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut page = Page {
        text: HEAD.to_owned(),
    };
    let own = set.file.iter().filter(|file| file.package() == "tessera.v1");
    // The services first, then the error reasons.
    let (services, rest): (Vec<_>, Vec<_>) = own.partition(|file| !file.service.is_empty());
    services.into_iter().chain(rest).for_each(|file| page.file(file));
    assert!(
        page.text.contains("### Issue") && page.text.contains("Who may call"),
        "no comments"
    );
    let path = root().join("docs/api.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page.text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page.text,
        "docs/api.md is not what the protos say: UPDATE_DOCS=1 cargo test -p tessera-proto --test it api_reference"
    );
}
