//! `schema`: a feed's row as .proto text.

use std::io::Write as _;

use crate::cli::SchemaArgs;
use crate::client::Server;
use crate::exit::Failure;
use crate::json;
use crate::output::Output;

pub(crate) async fn run(args: SchemaArgs, out: &mut Output) -> Result<(), Failure> {
    let server = Server::connect(&args.read.server, &args.read.tls).await?;
    let (schema, proto) = server.schema(&args.feed).await?;
    if args.read.json {
        let fields = |fields: &[onair_sdk::Field]| -> Vec<serde_json::Value> {
            let form = |field: &onair_sdk::Field| {
                serde_json::json!({
                    "column": &*field.column,
                    "name": &*field.name,
                    "number": field.number,
                    "kind": format!("{:?}", field.kind).to_lowercase(),
                })
            };
            fields.iter().map(form).collect()
        };
        let form = serde_json::json!({
            "feed": &*schema.feed,
            "table": &*schema.table,
            "key": fields(&schema.key),
            "columns": fields(&schema.columns),
            "proto": proto,
        });
        return Ok(json::line(out, &form)?);
    }
    out.write_all(proto.as_bytes())?;
    Ok(out.flush()?)
}
