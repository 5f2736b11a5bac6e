//! The columns of the table of every type, and the values that are written to them, as SQL.

use onair_xtask::servers::Flavor;

pub(super) struct Column {
    pub(super) name: String,
    pub(super) declared: String,
    /// Empty: the server fills it.
    pub(super) values: Vec<String>,
    pub(super) exported: bool,
}

impl Column {
    /// The expression whose text is what the column's value should be.
    pub(super) fn selected(&self) -> String {
        let declared = self.declared.to_uppercase();
        if declared.starts_with("FLOAT") {
            format!("CAST(`{}` AS DOUBLE)", self.name)
        } else if declared.starts_with("BIT") {
            format!("`{}` + 0", self.name)
        } else {
            format!("`{}`", self.name)
        }
    }
}

pub(super) fn columns(flavor: Flavor) -> Vec<Column> {
    let mut all = Columns(Vec::new());
    all.integers();
    all.numbers();
    all.times();
    all.text();
    all.bytes();
    all.labels();
    all.generated(flavor);
    if flavor.is_mariadb() {
        all.mariadb();
    } else {
        all.json();
        if flavor == Flavor::Mysql97 {
            all.add(
                "vec",
                "VECTOR(3)",
                &["TO_VECTOR('[1,-2.5,3e10]')", "TO_VECTOR('[0,0,0]')"],
            );
        }
    }
    all.0
}

struct Columns(Vec<Column>);

impl Columns {
    fn add(&mut self, name: &str, declared: &str, values: &[&str]) {
        self.0.push(Column {
            name: name.to_owned(),
            declared: declared.to_owned(),
            values: values.iter().map(|&v| v.to_owned()).collect(),
            exported: true,
        });
    }

    /// In the table, not in the feed.
    fn skipped(&mut self, name: &str, declared: &str, values: &[&str]) {
        self.add(name, declared, values);
        if let Some(last) = self.0.last_mut() {
            last.exported = false;
        }
    }

    fn integers(&mut self) {
        for (name, bits) in [
            ("TINYINT", 8u32),
            ("SMALLINT", 16),
            ("MEDIUMINT", 24),
            ("INT", 32),
            ("BIGINT", 64),
        ] {
            let top = 1i128 << (bits - 1);
            let signed = [-top, -1, 0, 1, top - 1].map(|n| n.to_string());
            let unsigned = [0, 1, top - 1, top, 2 * top - 1].map(|n| n.to_string());
            let (signed, unsigned) = (signed.each_ref(), unsigned.each_ref());
            let kind = name.to_lowercase();
            self.add(&format!("{kind}_i"), name, &signed.map(|n| &**n));
            let declared = format!("{name} UNSIGNED");
            self.add(&format!("{kind}_u"), &declared, &unsigned.map(|n| &**n));
        }
        self.add("zerofill", "INT(8) ZEROFILL", &["0", "42", "4294967295"]);
        self.add("boolean", "BOOL NOT NULL DEFAULT 7", &["TRUE", "FALSE"]);
    }

    fn numbers(&mut self) {
        let (nines35, nines30) = ("9".repeat(35), "9".repeat(30));
        let largest = format!("{nines35}.{nines30}");
        let smallest = format!("-{largest}");
        let tiny = format!("-0.{}1", "0".repeat(29));
        self.add(
            "dec_65_30",
            "DECIMAL(65,30)",
            &[
                &largest,
                &smallest,
                "0",
                "-0.5",
                &tiny,
                "12345678901234567890.123456789",
            ],
        );
        let nines65 = "9".repeat(65);
        self.add(
            "dec_65_0",
            "DECIMAL(65,0)",
            &[&nines65, "-1", "0", "1000000000"],
        );
        self.add(
            "dec_30_30",
            "DECIMAL(30,30)",
            &[&format!("0.{nines30}"), &tiny, "0"],
        );
        for (precision, scale) in [
            (1, 0),
            (1, 1),
            (5, 2),
            (9, 9),
            (10, 0),
            (18, 9),
            (19, 4),
            (20, 19),
        ] {
            let whole = "9".repeat(precision - scale);
            let part = "9".repeat(scale);
            let top = format!("{whole}.{part}");
            let name = format!("dec_{precision}_{scale}");
            let declared = format!("DECIMAL({precision},{scale})");
            self.add(
                &name,
                &declared,
                &[&top, &format!("-{top}"), "0", "0.1", "-0.01", "1"],
            );
        }
        self.add(
            "dec_u",
            "DECIMAL(10,4) UNSIGNED",
            &["0", "999999.9999", "0.0001"],
        );
        self.add(
            "fl",
            "FLOAT",
            &[
                "0",
                "-0.0",
                "0.1",
                "-3.402823466e38",
                "1.175494351e-38",
                "1e-45",
                "16777217",
                "3.14159265",
            ],
        );
        self.add("fl_7_3", "FLOAT(7,3)", &["1.2345", "-9999.999"]);
        self.add(
            "dbl",
            "DOUBLE",
            &[
                "0",
                "-0.0",
                "0.1",
                "1.7976931348623157e308",
                "2.2250738585072014e-308",
                "5e-324",
                "1e15",
                "1e-16",
                "123456789012345678",
            ],
        );
        self.add("bit_1", "BIT(1)", &["b'0'", "b'1'"]);
        self.add("bit_12", "BIT(12)", &["b'0'", "b'101010101011'"]);
        self.add(
            "bit_64",
            "BIT(64)",
            &["0", "18446744073709551615", "9223372036854775808"],
        );
        self.add("yr", "YEAR", &["0", "1901", "2155", "2026", "'0000'"]);
    }

    fn times(&mut self) {
        self.add(
            "d",
            "DATE",
            &[
                "'0000-00-00'",
                "'2026-00-00'",
                "'2026-11-00'",
                "'1000-01-01'",
                "'9999-12-31'",
                "'2024-02-29'",
                "'0001-01-01'",
            ],
        );
        for fsp in 0..=6 {
            self.add(
                &format!("tm{fsp}"),
                &format!("TIME({fsp})"),
                &[
                    "'00:00:00'",
                    "'-838:59:59'",
                    "'838:59:59'",
                    "'-00:00:00.123456'",
                    "'-00:00:01'",
                    "'-00:00:00.9'",
                    "'12:34:56.789012'",
                    "'-100:00:00.000001'",
                    "'99:59:59.999999'",
                ],
            );
            self.add(
                &format!("dt{fsp}"),
                &format!("DATETIME({fsp})"),
                &[
                    "'0000-00-00 00:00:00'",
                    "'1000-01-01 00:00:00.000001'",
                    "'9999-12-31 23:59:59'",
                    "'2026-11-22 10:00:00.123456'",
                    "'2026-00-00 00:00:00'",
                    "'2026-11-22 23:59:59.1'",
                ],
            );
            self.add(
                &format!("ts{fsp}"),
                &format!("TIMESTAMP({fsp}) NULL DEFAULT NULL"),
                &[
                    "'0000-00-00 00:00:00'",
                    "'1970-01-01 00:00:01'",
                    "'2038-01-19 03:14:07'",
                    "'2026-11-22 10:00:00.123456'",
                    "'2000-02-29 23:59:59.9'",
                ],
            );
        }
    }

    fn text(&mut self) {
        let plain = [
            "''",
            "'plain'",
            r#"'quote " \\ back \0 nul \n'"#,
            "'trailing  '",
            "'日本語 é'",
        ];
        let emoji = ["'😀 𝄞'", "'a\u{301}'"];
        let all: Vec<&str> = plain.iter().chain(&emoji).copied().collect();
        self.add("ch", "CHAR(30)", &all);
        let full = "REPEAT('😀', 255)";
        self.add(
            "ch_255",
            "CHAR(255)",
            &["''", "'x'", full, "REPEAT('é', 200)"],
        );
        self.add("vc", "VARCHAR(30)", &all);
        self.add("vc_63", "VARCHAR(63)", &["REPEAT('😀', 63)", "''"]);
        self.add("vc_64", "VARCHAR(64)", &["REPEAT('😀', 64)", "'x'"]);
        self.add("vc_5000", "VARCHAR(5000)", &["''", "REPEAT('日本', 1000)"]);
        self.add("tt", "TINYTEXT", &all);
        self.add(
            "txt",
            "TEXT",
            &["''", "REPEAT('x', 65535)", "REPEAT('日本', 1000)"],
        );
        self.add("mt", "MEDIUMTEXT", &["''", "REPEAT('y', 70000)", "'😀'"]);
        self.add("lt", "LONGTEXT", &["''", "REPEAT('z', 300)", "'😀'"]);
        for collation in ["utf8mb4_bin", "utf8mb4_unicode_ci"] {
            let declared = format!("VARCHAR(30) COLLATE {collation}");
            self.add(&format!("vc_{collation}"), &declared, &all);
        }
        self.add("vc_utf8mb3", "VARCHAR(30) CHARACTER SET utf8mb3", &plain);
        self.add("vc_utf16", "VARCHAR(30) CHARACTER SET utf16", &all);
        self.add("vc_utf16le", "VARCHAR(30) CHARACTER SET utf16le", &all);
        self.add("vc_utf32", "VARCHAR(30) CHARACTER SET utf32", &all);
        self.add("vc_ucs2", "VARCHAR(30) CHARACTER SET ucs2", &plain);
        self.add(
            "vc_gbk",
            "VARCHAR(30) CHARACTER SET gbk",
            &["''", "'中文 plain'", "'日本語'"],
        );
        self.add(
            "ch_ascii",
            "CHAR(5) CHARACTER SET ascii",
            &["''", "'plain'", r"'\0\n\\'"],
        );
        // All 256 bytes of latin1.
        let latin1: Vec<u8> = (0..=255).collect();
        let latin1 = format!("_latin1 0x{}", hex(&latin1));
        self.add(
            "vc_latin1",
            "VARCHAR(256) CHARACTER SET latin1",
            &["''", "'é€'", &latin1],
        );
        self.add("txt_latin1", "TEXT CHARACTER SET latin1", &[&latin1, "'ÿ'"]);
    }

    fn bytes(&mut self) {
        let bytes: Vec<u8> = (0..=255).collect();
        let all = format!("0x{}", hex(&bytes));
        self.add(
            "bin_8",
            "BINARY(8)",
            &[
                "''",
                "0x00",
                "0x0100",
                "0xff00000000000000",
                "0x0000000000000001",
                "'        '",
            ],
        );
        self.add(
            "bin_255",
            "BINARY(255)",
            &["''", "0x80", "REPEAT(0xff, 255)"],
        );
        self.add(
            "vb",
            "VARBINARY(20)",
            &["''", "0x00", "0x610000", "0xfffefd"],
        );
        self.add("vb_300", "VARBINARY(300)", &["''", &all]);
        self.add("tb", "TINYBLOB", &["''", "0x00ff"]);
        self.add("blb", "BLOB", &["''", &all]);
        self.add("mb", "MEDIUMBLOB", &["''", "REPEAT(0x00, 70000)"]);
        self.add("lb", "LONGBLOB", &["''", &all]);
        self.add(
            "geo",
            "GEOMETRY",
            &[
                "ST_GeomFromText('POINT(1 -2.5)')",
                "ST_GeomFromText('LINESTRING(0 0,1 1,2 2)')",
            ],
        );
        self.add(
            "pt",
            "POINT",
            &[
                "ST_GeomFromText('POINT(0 0)')",
                "ST_GeomFromText('POINT(1e300 -1e-300)', 4326 - 4326)",
            ],
        );
    }

    fn labels(&mut self) {
        self.add(
            "en",
            "ENUM('a','b''c','日本','','d\\\\e','f\ng','h,i')",
            &["1", "2", "3", "4", "5", "6", "7", "0", "'not one'"],
        );
        let many: Vec<_> = (1..=300).map(|n| format!("'label {n}'")).collect();
        let many = format!("ENUM({}) CHARACTER SET latin1", many.join(","));
        self.add("en_300", &many, &["1", "255", "256", "300", "0"]);
        self.add(
            "en_latin1",
            "ENUM('é','ÿ') CHARACTER SET latin1",
            &["1", "2"],
        );
        self.add("st", "SET('a','b''c','日本')", &["0", "1", "2", "5", "7"]);
        for (count, top) in [
            (8, "255"),
            (9, "511"),
            (17, "131071"),
            (33, "8589934591"),
            (64, "18446744073709551615"),
        ] {
            let labels: Vec<_> = (0..count).map(|n| format!("'l{n}'")).collect();
            let declared = format!("SET({})", labels.join(","));
            self.add(
                &format!("st_{count}"),
                &declared,
                &["0", "1", top, "'l7,l0'"],
            );
        }
    }

    fn generated(&mut self, flavor: Flavor) {
        self.add("gen_virtual", "INT AS (int_i + 0) VIRTUAL", &[]);
        self.add(
            "gen_stored",
            "VARCHAR(40) AS (CONCAT('<', vc, '>')) STORED",
            &[],
        );
        let invisible = match flavor {
            Flavor::Mysql97 | Flavor::Mysql80 => "INT NULL /*!80023 INVISIBLE */",
            _ => "INT INVISIBLE",
        };
        self.add("hidden", invisible, &["1", "-2"]);
    }

    fn mariadb(&mut self) {
        self.add("js", "JSON", &["'{\"b\": [1, 2.50], \"a\":null}'", "'1'"]);
        self.skipped(
            "id_uuid",
            "UUID",
            &["'123e4567-e89b-12d3-a456-426655440000'", "NULL"],
        );
        self.skipped("ip6", "INET6", &["'::1'", "'2001:db8::'"]);
        self.skipped("ip4", "INET4", &["'1.2.3.4'", "'0.0.0.0'"]);
        self.skipped(
            "packed",
            "VARCHAR(500) COMPRESSED",
            &["REPEAT('x', 400)", "''"],
        );
        self.skipped(
            "packed_text",
            "TEXT COMPRESSED",
            &["REPEAT('x', 4000)", "''"],
        );
        self.add("after_skipped", "INT", &["1", "2"]);
    }

    fn json(&mut self) {
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        let long_key = "k".repeat(300);
        let mut documents: Vec<String> = [
            "null",
            "true",
            "false",
            "0",
            "-1",
            "32767",
            "32768",
            "-32768",
            "-32769",
            "65535",
            "65536",
            "2147483647",
            "2147483648",
            "-2147483649",
            "4294967296",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1.0",
            "-0.0",
            "0.1",
            "1e15",
            "123456789012345.6",
            "1e14",
            "1e-15",
            "1e-16",
            "1.5e300",
            "5e-324",
            "1.7976931348623157e308",
            "-1.5e-7",
            "100.0",
            "3.14",
            r#""""#,
            r#""plain""#,
            r#""😀 日本 é""#,
            r#""quote \" back \\ slash \/ \b\f\n\r\t""#,
            r#""\u0000\u0001\u001f\u007f\u2028""#,
            "{}",
            "[]",
            r#"{"b": 1, "a": [1, 2, {"c": null}]}"#,
            r#"{"aa": 1, "b": 2, "a": 3, "": 4}"#,
            r#"{"k\"ey\\ \n": {"x": []}}"#,
            "[1, -1, 1.5, \"a\", null, true, {}, []]",
        ]
        .map(|text| format!("CAST({} AS JSON)", quoted(text)))
        .to_vec();
        documents.push(format!("CAST({} AS JSON)", quoted(&deep)));
        documents.push(format!("JSON_OBJECT('{long_key}', 1)"));
        for expression in [
            "JSON_ARRAY(CAST('2026-11-22' AS DATE), CAST('-12:34:56.5' AS TIME(6)), CAST('2026-11-22 10:00:00.25' AS DATETIME(6)), TIMESTAMP'2026-11-22 10:00:00')",
            "JSON_ARRAY(CAST('0000-00-00' AS DATE), CAST('838:59:59' AS TIME), CAST('-838:59:59' AS TIME))",
            "JSON_ARRAY(12.340, -0.5, 99999999999999999999999999999999999.999999999999999999999999999999, 0.000)",
            "JSON_ARRAY(x'00ff', b'101', REPEAT(x'41', 57), REPEAT(x'41', 58), REPEAT(x'00', 300), '')",
            "JSON_ARRAY(ST_GeomFromText('POINT(1 2)'), CAST(0.1 AS FLOAT), CAST(2026 AS YEAR), CAST(18446744073709551615 AS UNSIGNED))",
            // More than 64 KiB: the large formats.
            "JSON_OBJECT('long', REPEAT('x', 70000), 'n', 1, 'i', 70000, 'd', 1.5, 'a', JSON_ARRAY(1, 100000, -1, NULL, TRUE))",
            "JSON_ARRAY(REPEAT('x', 70000), JSON_OBJECT('a', 65536, 'u', 4294967295, 'b', -70000), 2147483648)",
            "JSON_ARRAY(REPEAT('x', 127), REPEAT('x', 128), REPEAT('x', 16383), REPEAT('x', 16384))",
        ] {
            documents.push(expression.to_owned());
        }
        let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
        self.add("js", "JSON", &documents);
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
