//! CEL validation rules that several fields share.

use kube::core::{Message, Rule};

use crate::labels;

/// An endpoint: `host:port`, or a URL with a port.
const ENDPOINT: &str = r"^([a-z][a-z0-9+.-]*://)?([A-Za-z0-9.-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$";

/// The object's name must be usable as a label value.
pub(crate) fn name_fits_label() -> Rule {
    // The API server restricts names to lower-case letters, digits, `-` and `.`, with a letter or
    // digit at both ends. A label value is subject to one more restriction, its length.
    Rule::new("size(self.metadata.name) <= 63").message(
        "metadata.name must be at most 63 characters, since it becomes a label value: choose a \
         shorter name",
    )
}

/// The object's name must not be a word that stands for labels without an object.
pub(crate) fn name_is_not_reserved() -> Rule {
    Rule::new(format!(
        "!(self.metadata.name in ['{}', '{}'])",
        labels::UNLISTED,
        labels::UNDECLARED
    ))
    .message(
        "metadata.name must not be unlisted or undeclared, under which work without a class \
             or registration is booked: choose another name",
    )
}

/// The field, once set, cannot change.
pub(crate) fn immutable(message: &str) -> Rule {
    Rule::new("self == oldSelf").message(message)
}

/// A pod template cannot be changed, but for `metadata.creationTimestamp`: one program writes it as null,
/// and the next leaves it out.
pub(crate) fn immutable_template(message: &str) -> Rule {
    let metadata = |of: &str, field: &str| {
        format!("(has({of}.metadata) && has({of}.metadata.{field}) ? {of}.metadata.{field} : {{}})")
    };
    let same =
        |field: &str| format!("{} == {}", metadata("self", field), metadata("oldSelf", field));
    let rule =
        format!("self.spec == oldSelf.spec && {} && {}", same("labels"), same("annotations"));
    Rule::new(rule).message(message)
}

/// The optional field `name` can be neither changed, added nor removed.
pub(crate) fn optional_immutable(name: &str, message: &str) -> Rule {
    Rule::new(format!(
        "has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
    ))
    .message(message)
    .field_path(format!(".{name}"))
}

/// The string must match a regular expression (RE2).
pub(crate) fn matches(pattern: &str, message: &str) -> Rule {
    Rule::new(format!("self.matches('{pattern}')")).message(message)
}

/// Every string of the list must match a regular expression (RE2).
pub(crate) fn all_match(pattern: &str, message: &str) -> Rule {
    Rule::new(format!("self.all(item, item.matches('{pattern}'))")).message(message)
}

/// The duration must not exceed `longest`.
pub(crate) fn at_most(longest: &str, message: &str) -> Rule {
    within("0s", longest, message)
}

/// The duration must be between `shortest` and `longest`, both included.
pub(crate) fn within(shortest: &str, longest: &str, message: &str) -> Rule {
    // A text that is not a duration passes: the rule of the type refuses it. `duration()` would
    // fail here, and the user would read that error instead of the type's message.
    Rule::new(format!(
        "!self.matches('{pattern}') || (duration(self) >= duration('{shortest}') && duration(self) <= duration('{longest}'))",
        pattern = daylight_base::duration::PATTERN
    ))
    .message(message)
}

/// The string must be a SHA-256 commitment or digest.
pub(crate) fn sha256(message: &str) -> Rule {
    matches("^sha256:[0-9a-f]{64}$", message)
}

/// The string must be an algorithm's name.
pub(crate) fn algorithm(field: &str) -> Rule {
    matches(ALGORITHM, "").message(algorithm_message(field))
}

/// Every string of the list must be an algorithm's name.
pub(crate) fn algorithms(field: &str) -> Rule {
    all_match(ALGORITHM, "").message(algorithm_message(field))
}

const ALGORITHM: &str = "^[a-z0-9]([-a-z0-9._/]*[a-z0-9])?$";

fn algorithm_message(field: &str) -> Message {
    Message::Message(format!(
        "{field} must be written in lower case, such as kheavyhash or randomx"
    ))
}

/// Every string of the list must be an endpoint.
pub(crate) fn endpoints(field: &str) -> Rule {
    all_match(ENDPOINT, "").message(Message::Message(format!(
        "{field} must be host:port or scheme://host:port, such as \
         stratum+tcp://pool.example.com:5555"
    )))
}
