//! The pages of the demo application, as plain HTML strings.
//!
//! Nothing a visitor typed may reach a page unescaped: every value goes through [`esc`] or
//! [`segment`], and only this module writes angle brackets.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::state::{ApiKey, Content, DEMO_CODE, DEMO_USERS, Mail, Role, User};

const STYLE: &str = "\
body{margin:0;background:#dfe6ee;color:#223;font:14px/1.5 Verdana,Geneva,sans-serif}\
#top{background:#2a4d7c;color:#fff;padding:12px 24px;border-bottom:4px solid #e0a526}\
#top b{font-size:18px}#top a,#top button{color:#fff}#top small{color:#b9c9de}\
#nav{background:#3d659c;padding:6px 24px}#nav a{color:#fff;margin-right:16px;text-decoration:none}\
#nav form{display:inline}\
#main{max-width:680px;margin:24px auto;background:#fff;border:1px solid #b6c2d1;padding:8px 24px 24px}\
h1{font-size:20px;color:#2a4d7c;border-bottom:1px dotted #b6c2d1}label{display:block;margin:10px 0 2px}\
input,select{font:inherit;padding:3px 5px;border:1px solid #8a9bb0}\
button{font:inherit;margin-top:10px;padding:3px 14px;background:#e9edf3;border:1px solid #8a9bb0;cursor:pointer}\
#nav button{margin:0;background:none;border:0;padding:0;color:#fff}td form button{margin:0}\
table{border-collapse:collapse;width:100%}td,th{border:1px solid #cfd8e3;padding:4px 8px;text-align:left}\
.bad{background:#fdeaea;border:1px solid #d79a9a;padding:6px 10px}\
.good{background:#eaf7ea;border:1px solid #9ac79a;padding:6px 10px}\
.hint{background:#fff9e3;border:1px solid #e0cf8a;padding:6px 10px;margin-top:20px;font-size:12px}\
code{background:#f0f3f7;padding:1px 4px}";

/// What a path segment must not carry as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The line that tells the account has just been locked; [`super::ROUTES`] looks for it.
pub const NOW_LOCKED: &str = "Too many wrong passwords: the account has been locked.";
/// The line that tells the account was locked before.
pub const LOCKED: &str = "This account is locked.";
/// The line above a new API key.
pub const COPY_NOW: &str = "Copy this key now";

/// A value inside text or a quoted attribute.
pub fn esc(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// A value as one segment of a path, safe in an attribute too.
fn segment(value: &str) -> String {
    utf8_percent_encode(value, SEGMENT).to_string()
}

/// A whole page. `signed_in` is the user and the form value of the session.
pub fn page(title: &str, signed_in: Option<(&User, &str)>, main: &str) -> String {
    let nav = match signed_in {
        None => String::from(r#"<a href="/login">Sign in</a><a href="/outbox">Outbox</a>"#),
        Some((user, csrf)) => {
            let admin = if user.role == Role::Admin { r#"<a href="/admin/users">Users</a>"# } else { "" };
            format!(
                concat!(
                    r#"<a href="/">Home</a><a href="/password">Password</a><a href="/api-keys">API keys</a>"#,
                    r#"{admin}<a href="/outbox">Outbox</a>"#,
                    r#"<form method="post" action="/logout">{csrf}<button>Sign out {name}</button></form>"#
                ),
                admin = admin,
                csrf = hidden("csrf", csrf),
                name = esc(&user.name),
            )
        }
    };
    format!(
        concat!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - Acme Intranet</title>",
            "<style>{style}</style></head>\n<body><div id=\"top\"><b>Acme Intranet 2009</b> ",
            "<small>best viewed at 1024 by 768</small></div>\n<div id=\"nav\">{nav}</div>\n",
            "<div id=\"main\"><h1>{title}</h1>\n{main}\n</div></body></html>\n"
        ),
        title = esc(title),
        style = STYLE,
        nav = nav,
        main = main,
    )
}

/// A plain page with one sentence.
pub fn notice(title: &str, sentence: &str) -> String {
    page(title, None, &format!("<p>{}</p>", esc(sentence)))
}

fn hidden(name: &str, value: &str) -> String {
    format!(r#"<input type="hidden" name="{}" value="{}">"#, esc(name), esc(value))
}

fn bad(message: Option<&str>) -> String {
    message.map(|m| format!(r#"<p class="bad">{}</p>"#, esc(m))).unwrap_or_default()
}

fn good(message: Option<&str>) -> String {
    message.map(|m| format!(r#"<p class="good">{}</p>"#, esc(m))).unwrap_or_default()
}

/// The form that asks for name and password.
pub fn login(csrf: &str, typed: &str, wrong: Option<&str>, done: Option<&str>) -> String {
    let mut rows = String::new();
    for (name, password, _, mfa) in DEMO_USERS {
        let code = if mfa { "asks for a code" } else { "" };
        rows.push_str(&format!("<tr><td>{name}</td><td><code>{password}</code></td><td>{code}</td></tr>"));
    }
    let main = format!(
        concat!(
            "{done}{wrong}<form method=\"post\" action=\"/login\">{csrf}",
            r#"<label>User name</label><input name="username" value="{typed}">"#,
            r#"<label>Password</label><input type="password" name="password"><br><button>Sign in</button></form>"#,
            r#"<p><a href="/reset">Forgot your password?</a></p>"#,
            r#"<div class="hint">This is a demo. These people work here:<table>{rows}</table></div>"#
        ),
        done = good(done),
        wrong = bad(wrong),
        csrf = hidden("csrf", csrf),
        typed = esc(typed),
        rows = rows,
    );
    page("Sign in", None, &main)
}

/// The page that asks for the second factor. It repeats who is signing in, as many such pages do.
pub fn mfa(csrf: &str, user: &User, wrong: Option<&str>) -> String {
    let main = format!(
        concat!(
            "{wrong}<p>We have mailed a code to {email}.</p><form method=\"post\" action=\"/mfa\">{csrf}{username}",
            r#"<label>Code</label><input name="code" autocomplete="one-time-code"><br><button>Go on</button></form>"#,
            r#"<div class="hint">The mail is in the <a href="/outbox">outbox</a>, and says {code}.</div>"#
        ),
        wrong = bad(wrong),
        email = esc(&user.email),
        csrf = hidden("csrf", csrf),
        username = hidden("username", &user.name),
        code = DEMO_CODE,
    );
    page("One more step", None, &main)
}

/// The first page after the sign-in.
pub fn home(csrf: &str, user: &User) -> String {
    let main = format!(
        "<p>Good day, {}. You are signed in as {} ({}).</p>\
         <p>The canteen serves cottage pie today.</p><p><a href=\"/export.csv\">Phone list (CSV)</a></p>",
        esc(&user.name),
        esc(&user.email),
        user.role.as_str(),
    );
    page("Home", Some((user, csrf)), &main)
}

/// The form that changes one's own password.
pub fn password(csrf: &str, user: &User, wrong: Option<&str>, done: Option<&str>) -> String {
    let main = format!(
        concat!(
            "{done}{wrong}<form method=\"post\" action=\"/password\">{csrf}",
            r#"<label>Old password</label><input type="password" name="old">"#,
            r#"<label>New password</label><input type="password" name="new"><br><button>Change</button></form>"#
        ),
        done = good(done),
        wrong = bad(wrong),
        csrf = hidden("csrf", csrf),
    );
    page("Password", Some((user, csrf)), &main)
}

/// The form that asks for a reset link.
pub fn reset_request(csrf: &str) -> String {
    let main = format!(
        concat!(
            "<form method=\"post\" action=\"/reset\">{csrf}",
            r#"<label>Your address</label><input name="email"><br><button>Send me a link</button></form>"#
        ),
        csrf = hidden("csrf", csrf),
    );
    page("Forgot your password?", None, &main)
}

/// What is said after a reset was asked for, whoever asked.
pub fn reset_sent() -> String {
    let main = "<p>If the address is known here, a link is on its way.</p>\
                <div class=\"hint\">The mail is in the <a href=\"/outbox\">outbox</a>.</div>";
    page("Check your mail", None, main)
}

/// The form behind a reset link.
pub fn reset_form(csrf: &str, token: &str, user: &User, wrong: Option<&str>) -> String {
    let main = format!(
        concat!(
            "{wrong}<form method=\"post\" action=\"/reset/{token}\">{csrf}{email}<p>For {shown}</p>",
            r#"<label>New password</label><input type="password" name="password"><br><button>Set</button></form>"#
        ),
        wrong = bad(wrong),
        token = segment(token),
        csrf = hidden("csrf", csrf),
        email = hidden("email", &user.email),
        shown = esc(&user.email),
    );
    page("Set a new password", None, &main)
}

/// The fake mailbox.
pub fn outbox(mails: &[Mail]) -> String {
    let mut rows = String::new();
    for mail in mails {
        let text = match &mail.content {
            Content::Reset(token) => format!(r#"<a href="/reset/{}">Set a new password</a>"#, segment(token)),
            Content::Code => format!("Your code is {DEMO_CODE}"),
        };
        rows.push_str(&format!("<tr><td>{}</td><td>{text}</td></tr>", esc(&mail.to)));
    }
    let main = format!(
        "<p>Mails this demo would have sent, newest first.</p><table><tr><th>To</th><th>Text</th></tr>{rows}</table>"
    );
    page("Outbox", None, &main)
}

/// The accounts, with a form for each change.
pub fn users(csrf: &str, user: &User, all: &[User], wrong: Option<&str>) -> String {
    let token = hidden("csrf", csrf);
    let mut rows = String::new();
    for one in all {
        let at = segment(&one.name);
        let mut options = String::new();
        for role in Role::ALL {
            let selected = if role == one.role { " selected" } else { "" };
            options.push_str(&format!("<option{selected}>{}</option>", role.as_str()));
        }
        rows.push_str(&format!(
            concat!(
                "<tr><td>{name}</td><td>{email}</td><td>{locked}</td>",
                r#"<td><form method="post" action="/admin/users/{at}/role">{token}<select name="role">{options}"#,
                r#"</select> <button>Set</button></form></td>"#,
                r#"<td><form method="post" action="/admin/users/{at}/delete">{token}<button>Delete</button></form>"#,
                "</td></tr>\n"
            ),
            name = esc(&one.name),
            email = esc(&one.email),
            locked = if one.locked { "locked" } else { "" },
            at = at,
            token = token,
            options = options,
        ));
    }
    let main = format!(
        concat!(
            "{wrong}<table><tr><th>Name</th><th>Address</th><th></th><th>Role</th><th></th></tr>{rows}</table>",
            "<h1>New account</h1><form method=\"post\" action=\"/admin/users\">{token}",
            r#"<label>User name</label><input name="username"><label>Address</label><input name="email">"#,
            r#"<label>Password</label><input type="password" name="password"><br><button>Create</button></form>"#
        ),
        wrong = bad(wrong),
        rows = rows,
        token = token,
    );
    page("Users", Some((user, csrf)), &main)
}

/// The API keys of a user; `made` is the one that is shown this once.
pub fn api_keys(csrf: &str, user: &User, keys: &[ApiKey], made: Option<&str>, wrong: Option<&str>) -> String {
    let token = hidden("csrf", csrf);
    let made =
        made.map(|key| format!(r#"<p class="good">{COPY_NOW}, it is not shown again: <code>{}</code></p>"#, esc(key)));
    let mut rows = String::new();
    for key in keys {
        rows.push_str(&format!(
            concat!(
                "<tr><td>{id}</td><td>{label}</td>",
                r#"<td><form method="post" action="/api-keys/{at}/revoke">{token}<button>Revoke</button></form>"#,
                "</td></tr>"
            ),
            id = esc(&key.id),
            label = esc(&key.label),
            at = segment(&key.id),
            token = token,
        ));
    }
    let main = format!(
        concat!(
            "{made}{wrong}<table><tr><th>Id</th><th>Label</th><th></th></tr>{rows}</table>",
            "<form method=\"post\" action=\"/api-keys\">{token}",
            r#"<label>Label</label><input name="label"><br><button>Create</button></form>"#
        ),
        made = made.unwrap_or_default(),
        wrong = bad(wrong),
        rows = rows,
        token = token,
    );
    page("API keys", Some((user, csrf)), &main)
}

/// The phone list. Cells are quoted, and none begins with a character that a spreadsheet runs.
pub fn export(users: &[User]) -> String {
    let mut out = String::from("id,name,email,role\r\n");
    for user in users {
        let cells = [user.id.as_str(), &user.name, &user.email, user.role.as_str()].map(|cell| {
            let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
            format!("\"{guard}{}\"", cell.replace('"', "\"\""))
        });
        out.push_str(&cells.join(","));
        out.push_str("\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "<script>alert('x')</script>\"";

    #[test]
    fn a_script_tag_in_a_name_stays_text_on_every_page_that_shows_it() {
        let user = User {
            id: "u1".into(),
            name: SCRIPT.into(),
            email: SCRIPT.into(),
            role: Role::Admin,
            mfa: true,
            locked: false,
        };
        let key = ApiKey { id: SCRIPT.into(), label: SCRIPT.into() };
        let mail = Mail { to: SCRIPT.into(), content: Content::Reset(SCRIPT.into()) };
        let pages = [
            login(SCRIPT, SCRIPT, Some(SCRIPT), Some(SCRIPT)),
            mfa(SCRIPT, &user, None),
            home(SCRIPT, &user),
            password(SCRIPT, &user, Some(SCRIPT), Some(SCRIPT)),
            reset_form(SCRIPT, SCRIPT, &user, None),
            outbox(&[mail]),
            users(SCRIPT, &user, std::slice::from_ref(&user), Some(SCRIPT)),
            api_keys(SCRIPT, &user, &[key], Some(SCRIPT), None),
            notice(SCRIPT, SCRIPT),
        ];
        for page in pages {
            assert!(page.contains("&lt;script&gt;"), "the name is not shown: {page}");
            assert!(!page.contains("<script") && !page.contains("')"), "unescaped: {page}");
        }
    }

    #[test]
    fn a_spreadsheet_gets_no_formula() {
        let user = User {
            id: "u1".into(),
            name: "=cmd\"".into(),
            email: "a@b".into(),
            role: Role::Member,
            mfa: false,
            locked: false,
        };
        assert!(export(&[user]).ends_with("\"u1\",\"'=cmd\"\"\",\"a@b\",\"member\"\r\n"));
    }
}
