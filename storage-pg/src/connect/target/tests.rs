use tokio_postgres::config::Host as PgHost;

use super::*;

/// Stands for every secret; it must not turn up in any text.
const SECRET: &str = "S3cr3t";

fn parse(url: &str) -> Target {
    Target::parse(url, None).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn refused(url: &str) -> String {
    match Target::parse(url, None) {
        Ok(_) => panic!("{url} was taken"),
        Err(error) => {
            assert!(!format!("{error} {error:?}").contains(SECRET), "{url}: {error:?}");
            error.to_string()
        }
    }
}

/// Behind `postgresql://u@h/d?`.
fn with(words: &str) -> Target {
    parse(&format!("postgresql://u@h/d?{words}"))
}

fn refused_with(words: &str) -> String {
    refused(&format!("postgresql://u@h/d?{words}"))
}

#[test]
fn shows_where_and_nothing_else() {
    for (url, shown) in [
        ("postgres://u@h", "postgres://h:5432/u"),
        ("postgresql://u:S3cr3t@h/d", "postgresql://h:5432/d"),
        ("postgresql://u@h:5433/d?password=S3cr3t&options=-c%20x.y=S3cr3t", "postgresql://h:5433/d"),
        ("postgresql://S3cr3t:S3cr3t@[::1]:5/d", "postgresql://[::1]:5/d"),
        ("postgresql://u:S3cr3t@[::1]/d", "postgresql://[::1]:5432/d"),
        ("postgresql://u:S3cr3t@a:1,b:2,c/d", "postgresql://a:1,b:2,c:5432/d"),
        ("postgresql://u:S3cr3t%40%2F%3F@h/d%2Fe%20%C3%A4", "postgresql://h:5432/d%2Fe%20ä"),
        ("postgresql:///d?host=/run/pg&user=u&password=S3cr3t", "postgresql://%2Frun%2Fpg:5432/d"),
        ("postgresql://u@%2Frun%2Fpg:5433/d", "postgresql://%2Frun%2Fpg:5433/d"),
        ("postgresql://u@h/d?hostaddr=10.0.0.1", "postgresql://h:5432/d"),
        ("postgresql://u@/d?hostaddr=10.0.0.1,::1&port=1,2", "postgresql://10.0.0.1:1,[::1]:2/d"),
    ] {
        let target = parse(url);
        assert_eq!(target.shown(), shown);
        assert_eq!(target.to_string(), shown);
        assert_eq!(format!("{target:?}"), shown);
        let config = format!("{:?}", target.config(None));
        assert!(!config.contains("password: Some(\"S3"), "{config}");
    }
}

#[test]
fn parts_are_decoded_and_handed_on() {
    let config = parse("postgresql://b%20o%40t:p%3A%2F%25w%FF@h:5433/d%2Fb?application_name=my%20bot+1").config(None);
    assert_eq!(config.get_user(), Some("b o@t"));
    assert_eq!(config.get_password(), Some(&b"p:/%w\xff"[..]));
    assert_eq!(config.get_dbname(), Some("d/b"));
    assert_eq!(config.get_application_name(), Some("my bot+1"));
    assert_eq!(config.get_hosts(), [PgHost::Tcp("h".into())]);
    assert_eq!(config.get_ports(), [5433]);
}

#[test]
fn user_password_and_database_may_stand_behind_the_question_mark() {
    let config = parse("postgresql://?user=u&password=a%26b&dbname=d&host=h&port=7").config(None);
    assert_eq!((config.get_user(), config.get_dbname()), (Some("u"), Some("d")));
    assert_eq!(config.get_password(), Some(&b"a&b"[..]));
    assert_eq!(config.get_ports(), [7]);
}

#[test]
fn what_is_missing_is_filled_in() {
    let target = parse("postgresql://u@");
    assert_eq!(target.shown(), "postgresql://localhost:5432/u");
    assert!(!target.has_password());
    assert_eq!(Target::parse("postgres://h/d", Some("os")).unwrap().config(None).get_user(), Some("os"));
    assert_eq!(Target::parse("postgres://h", Some("os")).unwrap().database(), "os");
    assert_eq!(Target::parse("postgres://u@h", Some("os")).unwrap().database(), "u");
    assert_eq!(parse("postgresql://u@:5433/d").shown(), "postgresql://localhost:5433/d");
    for url in ["postgres://h/d", "postgres://:S3cr3t@h/d", "postgres:///", "postgres://h/d?user="] {
        assert_eq!(refused(url), "user must stand before the host, as in postgresql://user@host/database");
    }
    assert!(Target::parse("postgres://h/d", Some("")).is_err());
}

#[test]
fn the_defaults_bound_every_wait() {
    let config = parse("postgresql://u@h/d").config(None);
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(5)));
    assert!(config.get_keepalives());
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(30));
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(15)));
    assert_eq!(config.get_application_name(), Some("generation-storage"));
    assert_eq!(config.get_ssl_mode(), SslMode::Prefer);
    assert_eq!(config.get_channel_binding(), ChannelBinding::Prefer);
    assert_eq!(config.get_options(), None);
}

#[test]
fn the_url_overrides_the_defaults() {
    let config = with(
        "connect_timeout=1&keepalives_idle=7&keepalives_interval=3&keepalives_count=2&tcp_user_timeout=2500\
         &application_name=x&load_balance_hosts=random&channel_binding=disable",
    )
    .config(None);
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(1)));
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7));
    assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(3)));
    assert_eq!(config.get_keepalives_retries(), Some(2));
    // libpq counts this one in milliseconds; tokio-postgres, left to itself, in seconds.
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(2500)));
    assert_eq!(config.get_application_name(), Some("x"));
    assert_eq!(config.get_load_balance_hosts(), LoadBalanceHosts::Random);
    assert_eq!(config.get_channel_binding(), ChannelBinding::Disable);

    let config = with("keepalives=0&tcp_user_timeout=0").config(None);
    assert!(!config.get_keepalives());
    assert_eq!(config.get_tcp_user_timeout(), None);
    let config = with("keepalives_interval=0&keepalives_retries=0").config(None);
    assert_eq!((config.get_keepalives_interval(), config.get_keepalives_retries()), (None, None));
    assert_eq!(with("keepalives_retries=127").config(None).get_keepalives_retries(), Some(127));
}

#[test]
fn numbers_have_limits() {
    for (word, least, most, unit) in [
        ("connect_timeout", 1_u64, 3600_u64, " of seconds"),
        ("keepalives_idle", 1, 32_767, " of seconds"),
        ("keepalives_interval", 0, 32_767, " of seconds"),
        ("keepalives_count", 0, 127, ""),
        ("keepalives_retries", 0, 127, ""),
        ("tcp_user_timeout", 0, 2_147_483_647, " of milliseconds"),
    ] {
        with(&format!("{word}={least}"));
        with(&format!("{word}={most}"));
        for bad in [(most + 1).to_string(), "-1".into(), "1.5".into(), "5s".into(), SECRET.into()] {
            let error = refused_with(&format!("{word}={bad}"));
            assert_eq!(error, format!("{word} must be a whole number{unit} from {least} to {most}"));
        }
        if least > 0 {
            refused_with(&format!("{word}={}", least - 1));
        }
        assert_eq!(refused_with(&format!("{word}=")), format!("{word} must have a value"));
    }
    assert_eq!(
        refused_with("keepalives_count=1&keepalives_retries=1"),
        "keepalives_retries is given twice: keepalives_count is the same"
    );
}

#[test]
fn ours_stand_around_the_urls_options() {
    let ours = Session { lock_timeout: 5000 };
    let target = with("options=-c%20statement_timeout=1");
    assert!(target.has_options());
    assert_eq!(target.config(None).get_options(), Some("-c statement_timeout=1"));
    assert_eq!(
        target.config(Some(&ours)).get_options(),
        Some("-c lock_timeout=5000 -c statement_timeout=1 -c search_path=pg_catalog,pg_temp -c row_security=off")
    );
    assert!(!with("options=").has_options());
    assert_eq!(
        with("options=").config(Some(&ours)).get_options(),
        Some("-c lock_timeout=5000 -c search_path=pg_catalog,pg_temp -c row_security=off")
    );
}

#[test]
fn hosts() {
    assert_eq!(parse("postgresql://u@a,b:2/d").config(None).get_ports(), [5432, 2]);
    assert_eq!(parse("postgresql://u@/d?host=a,b,c&port=7").config(None).get_ports(), [7, 7, 7]);
    assert_eq!(parse("postgresql://u@/d?host=a,::1&port=7,8").shown(), "postgresql://a:7,[::1]:8/d");
    assert_eq!(parse("postgresql://u@h/d?port=7").shown(), "postgresql://h:7/d");
    let config = parse("postgresql://u@a,b/d?hostaddr=10.0.0.1,10.0.0.2").config(None);
    assert_eq!(config.get_hosts(), [PgHost::Tcp("a".into()), PgHost::Tcp("b".into())]);
    assert_eq!(config.get_hostaddrs().len(), 2);
    // The address is the name that TLS checks.
    assert_eq!(parse("postgresql://u@/d?hostaddr=::1").config(None).get_hosts(), [PgHost::Tcp("::1".into())]);

    assert_eq!(refused("postgresql://u@h/d?host=i"), "host is given twice: before and behind the question mark");
    assert_eq!(
        refused("postgresql://u@h:1/d?port=2"),
        "port is given twice: behind the host and behind the question mark"
    );
    assert_eq!(refused("postgresql://u@a,b,c/d?port=1,2"), "port must be one for all hosts or one for each");
    assert_eq!(refused("postgresql://u@a,b/d?hostaddr=::1"), "hostaddr must have as many addresses as there are hosts");
    assert_eq!(
        refused("postgresql://u@h/d?hostaddr=S3cr3t"),
        "hostaddr must be an IP address for each host, joined by commas"
    );
    for url in ["postgresql://u@a,,b/d", "postgresql://u@,/d", "postgresql://u@/d?host=a,"] {
        assert_eq!(refused(url), "host must name each host of a list");
    }
    for url in ["postgresql://u@[::1/d", "postgresql://u@[S3cr3t]/d", "postgresql://u@[1.2.3.4]/d"] {
        assert!(refused(url).starts_with("host must "), "{url}");
    }
    assert_eq!(
        refused("postgresql://u@h%20i/d"),
        "host must be a name, an IP address or a directory that begins with /"
    );
    for port in ["0", "65536", "+5", "S3cr3t", "", "5 "] {
        let url = format!("postgresql://u@h:{}/d", port.replace(' ', "%20"));
        assert_eq!(refused(&url), "port must be a number from 1 to 65535");
    }
    assert_eq!(parse("postgresql://u@h:65535/d").config(None).get_ports(), [65535]);
    assert_eq!(refused("postgresql://u@[::1]5/d"), "port must be a number from 1 to 65535");
    assert_eq!(refused("postgresql://u@::1/d"), "port must be a number from 1 to 65535");
}

#[cfg(unix)]
#[test]
fn unix_sockets() {
    for url in
        ["postgresql:///d?host=/run/pg&user=u", "postgresql:///d?host=%2Frun%2Fpg&user=u", "postgres://u@%2frun%2fpg/d"]
    {
        let target = parse(url);
        assert_eq!(target.config(None).get_hosts(), [PgHost::Unix("/run/pg".into())]);
        assert_eq!(target.hosts().first().unwrap().to_string(), "/run/pg/.s.PGSQL.5432");
        assert!(target.is_local());
    }
    // There is no TLS on a socket, whatever the mode says.
    assert_eq!(
        parse("postgresql:///d?host=/run/pg&user=u&sslmode=require").config(None).get_ssl_mode(),
        SslMode::Disable
    );
    assert_eq!(refused("postgresql://u@/d?host=/run/pg&hostaddr=::1"), "hostaddr cannot stand beside a Unix socket");
}

#[test]
fn local_means_that_nothing_can_leave_the_machine() {
    for hosts in
        ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "[::1]", "[::ffff:127.0.0.1]", "localhost,127.0.0.1"]
    {
        assert!(parse(&format!("postgresql://u@{hosts}/d")).is_local(), "{hosts}");
    }
    for hosts in ["h", "10.0.0.1", "[2001:db8::1]", "localhost,h", "localhost.example.org", "0.0.0.0"] {
        assert!(!parse(&format!("postgresql://u@{hosts}/d")).is_local(), "{hosts}");
    }
    assert!(!parse("postgresql://u@localhost/d?hostaddr=10.0.0.1").is_local());
    assert!(parse("postgresql://u@h/d?hostaddr=127.0.0.1").is_local());

    assert!(with("sslmode=prefer").may_go_unencrypted());
    assert!(with("sslmode=disable").may_go_unencrypted());
    assert!(!with("sslmode=require").may_go_unencrypted());
    assert!(!parse("postgresql://u@localhost/d").may_go_unencrypted());
}

#[test]
fn session_attributes() {
    // Each connection proves it by itself, whatever the word.
    for word in ["read-write", "primary", "any"] {
        with(&format!("target_session_attrs={word}"));
    }
    for word in ["read-only", "standby", "prefer-standby"] {
        assert_eq!(
            refused_with(&format!("target_session_attrs={word}")),
            format!("target_session_attrs cannot be {word}: a store must be able to write")
        );
    }
    assert_eq!(
        refused_with("target_session_attrs=S3cr3t"),
        "target_session_attrs must be one of: any, read-write, primary"
    );
}

#[test]
fn tls_modes() {
    for (words, protection, mode) in [
        ("", Protection::Opportunistic, SslMode::Prefer),
        ("sslmode=disable", Protection::Off, SslMode::Disable),
        ("sslmode=prefer", Protection::Opportunistic, SslMode::Prefer),
        ("sslmode=require", Protection::Encrypted, SslMode::Require),
        ("sslmode=require&sslrootcert=/ca.pem", Protection::Chain(Roots::File("/ca.pem".into())), SslMode::Require),
        ("sslmode=verify-ca&sslrootcert=ca%20.pem", Protection::Chain(Roots::File("ca .pem".into())), SslMode::Require),
        ("sslmode=verify-full&sslrootcert=/ca.pem", Protection::Full(Roots::File("/ca.pem".into())), SslMode::Require),
        ("sslmode=verify-full&sslrootcert=system", Protection::Full(Roots::System), SslMode::Require),
        ("sslmode=verify-full", Protection::Full(Roots::System), SslMode::Require),
        ("sslrootcert=system", Protection::Full(Roots::System), SslMode::Require),
    ] {
        let target = with(words);
        assert_eq!(target.protection, protection, "{words}");
        assert_eq!(target.config(None).get_ssl_mode(), mode, "{words}");
    }
    for (words, rule) in [
        ("sslmode=allow", "sslmode cannot be allow: it tries without TLS first; write prefer, which tries TLS first"),
        ("sslmode=S3cr3t", "sslmode must be one of: disable, prefer, require, verify-ca, verify-full"),
        ("sslmode=Require", "sslmode must be one of: disable, prefer, require, verify-ca, verify-full"),
        ("sslmode=", "sslmode must have a value"),
        (
            "sslmode=verify-ca",
            "sslmode cannot be verify-ca without sslrootcert: anybody can get a certificate that the system trusts; \
             write verify-full",
        ),
        (
            "sslmode=require&sslrootcert=system",
            "sslrootcert cannot be system unless sslmode=verify-full: anybody can get a certificate that the system trusts",
        ),
        ("sslrootcert=/ca", "sslrootcert needs sslmode=verify-full or verify-ca; otherwise nothing is checked"),
        (
            "sslmode=prefer&sslrootcert=/ca",
            "sslrootcert needs sslmode=verify-full or verify-ca; otherwise nothing is checked",
        ),
        ("sslnegotiation=direct", "sslnegotiation cannot be direct unless sslmode is require or stronger"),
        ("sslmode=require&sslnegotiation=x", "sslnegotiation must be one of: postgres, direct"),
        (
            "sslmode=disable&channel_binding=require",
            "channel_binding cannot be require with sslmode=disable: it binds the login to TLS",
        ),
        ("channel_binding=x", "channel_binding must be one of: disable, prefer, require"),
        ("load_balance_hosts=x", "load_balance_hosts must be one of: disable, random"),
        ("keepalives=2", "keepalives must be one of: 0, 1"),
    ] {
        assert_eq!(refused_with(words), rule);
    }
    let config = with("sslmode=require&sslnegotiation=direct&channel_binding=require").config(None);
    assert_eq!(config.get_ssl_negotiation(), SslNegotiation::Direct);
    assert_eq!(config.get_channel_binding(), ChannelBinding::Require);
}

#[test]
fn words_with_one_possible_value() {
    for words in [
        "client_encoding=UTF8",
        "client_encoding=utf-8",
        "client_encoding=auto",
        "gssencmode=disable",
        "sslsni=1",
        "sslcompression=0",
    ] {
        with(words);
    }
    assert_eq!(refused_with("client_encoding=LATIN1"), "client_encoding must be UTF8");
    assert_eq!(refused_with("gssencmode=prefer"), "gssencmode cannot be prefer: encryption by GSSAPI is not supported");
    assert_eq!(refused_with("gssencmode=x"), "gssencmode must be one of: disable");
}

#[test]
fn unknown_and_unsupported_words_are_refused_by_name() {
    let error = refused_with("sslmod=require");
    assert!(
        error.starts_with("has an unknown parameter `sslmod` in place 1; known are: application_name, "),
        "{error}"
    );
    assert!(error.ends_with(", target_session_attrs, tcp_user_timeout, user"), "{error}");
    for (words, rule) in [
        ("sslcert=S3cr3t", "sslcert is not supported; log in by password"),
        ("sslkey=/k", "sslkey is not supported; log in by password"),
        ("sslcrl=/k", "sslcrl is not supported"),
        ("passfile=/k", "passfile is not supported; write the password into the URL"),
        ("krbsrvname=k", "krbsrvname is not supported"),
        ("ssl=true", "ssl is not supported; write sslmode=require"),
    ] {
        assert_eq!(refused_with(words), rule);
    }
    for (words, rule) in [
        ("sslmode=require&sslmode=require", "sslmode is given twice"),
        ("password=S3cr3t&password=S3cr3t", "password is given twice"),
        ("user=v", "user is given twice"),
        ("dbname=d", "dbname is given twice"),
        ("host=", "host must have a value"),
        ("sslmode", "has no = in parameter 1; write word=value, joined by &"),
        ("sslmode=require&", "has no = in parameter 2; write word=value, joined by &"),
    ] {
        if words == "host=" {
            // An empty host says nothing, as with libpq.
            with(words);
            continue;
        }
        assert_eq!(refused_with(words), rule);
    }
}

#[test]
fn no_error_repeats_what_may_be_a_secret() {
    for url in [
        "postgresql://u:S3cr3t/S3cr3t@h/d",
        "postgresql://u:S3cr3t@S3cr3t@h/d",
        "postgresql://u:S3cr3t?S3cr3t@h/d",
        "postgresql://u:7?S3cr3t@h/d",
        "postgresql://u:S3cr3t#S3cr3t@h/d",
        "postgresql://u:S3cr3t",
        "postgresql://S3cr3t:S3cr3t:5432/d",
        "postgresql://u:S3cr3t@h:99999/d",
        "postgresql://u:S3cr3t%@h/d",
        "postgresql://u:S3cr3t%zz@h/d",
        "postgresql://u:S3cr3t%00@h/d",
        "postgresql://u:S3cr3t@h:/d",
        "postgresql://u:S3cr3t@h/d/e",
        "postgresql://u:S3cr3t@h/d e",
        "postgresql://u:S3cr3t\n@h/d",
        "postgresql://%FF:S3cr3t@h/d",
        "postgresql://u:S3cr3t@%FF/d",
        "postgresql://u:S3cr3t@h/%0A",
        // A bare & in the password: its tail looks like a word.
        "postgresql://u@h/d?password=x&S3cr3t",
        "postgresql://u@h/d?password=x&S3cr3t=1",
        "postgresql://u:S3cr3t@h/d?S3cr3t=1",
        "mysql://u:S3cr3t@h/d",
        "POSTGRES://u:S3cr3t@h/d",
        "host=h password=S3cr3t",
        "S3cr3t",
        "",
    ] {
        refused(url);
    }
    // In small letters, too, where the word would otherwise be named.
    let error = Target::parse("postgresql://u@h/d?password=x&tail=1", None).unwrap_err().to_string();
    assert!(error.starts_with("has an unknown parameter in place 2; known are: "), "{error}");
}
