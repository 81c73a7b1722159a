//! `GET /api/v1/openapi.json`: the document that describes the calls. A test holds it and the
//! router together; another holds answers against it.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// With this program's version.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    include_str!("openapi.json").replacen("\"version\": \"VERSION\"", &version, 1)
});

pub async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn parsed() -> Value {
        serde_json::from_str(&DOCUMENT).unwrap()
    }

    #[test]
    fn the_document_has_every_call_that_is_served_and_no_other() {
        let document = parsed();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let paths = document["paths"].as_object().unwrap();
        let documented: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, calls)| {
                let methods = calls.as_object().unwrap().keys();
                methods.map(|method| (method.clone(), path.clone()))
            })
            .collect();
        let served: BTreeSet<(String, String)> = crate::web::calls()
            .into_iter()
            .map(|(method, path)| (method.to_owned(), path))
            .collect();
        assert_eq!(documented, served);
    }

    #[test]
    fn what_the_document_refers_to_is_there_and_used() {
        let document = parsed();
        let (mut wanted, mut waiting) = (BTreeSet::new(), vec![&document]);
        while let Some(value) = waiting.pop() {
            match value {
                Value::Object(fields) => {
                    let target = fields.get("$ref").and_then(Value::as_str);
                    wanted.extend(target.map(str::to_owned));
                    waiting.extend(fields.values());
                }
                Value::Array(items) => waiting.extend(items),
                _ => {}
            }
        }
        for target in &wanted {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        for (kind, parts) in document["components"].as_object().unwrap() {
            for name in parts.as_object().unwrap().keys().filter(|_| kind != "securitySchemes") {
                assert!(wanted.contains(&format!("#/components/{kind}/{name}")), "{kind} {name}");
            }
        }
    }

    #[test]
    fn what_is_in_a_path_is_a_parameter_of_its_call() {
        let document = parsed();
        for (path, calls) in document["paths"].as_object().unwrap() {
            let in_path: BTreeSet<&str> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            for call in calls.as_object().unwrap().values() {
                let parameters = call["parameters"].as_array().into_iter().flatten();
                let named: BTreeSet<&str> = parameters
                    .filter(|parameter| parameter["in"] == "path")
                    .filter_map(|parameter| parameter["name"].as_str())
                    .collect();
                assert_eq!(named, in_path, "{path}");
            }
        }
    }
}
