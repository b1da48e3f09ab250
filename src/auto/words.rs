//! What names mean: stems in many languages, none of them of any one application.
//!
//! Names of fields, segments of paths, actions and keys are cut into words by separators and case
//! (`user[newPassword]` is `user`, `new`, `password`), and compared with broad tables of stems. The
//! tables say what a name *suggests*; whether it is so is for the evidence of the answer to say.
//! Must never see a value that a client typed, and never allocates beyond the length of its input.

/// The longest text that is cut into words, in bytes; what is longer is no name.
const LONGEST: usize = 512;

/// A text cut into words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Single words in lower case.
    words: Vec<String>,
    /// The words of one segment or name joined: `log_out` and `logOut` are `logout`.
    joined: Vec<String>,
}

impl Words {
    /// The words of one name.
    pub fn of(text: &str) -> Words {
        let mut words = Words::default();
        words.add(text);
        words
    }

    /// Adds the words of one more name or segment.
    pub fn add(&mut self, text: &str) {
        let text = text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default();
        let mut joined = String::new();
        let mut word = String::new();
        let mut before = ' ';
        for c in text.chars() {
            let boundary = c.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit());
            if (boundary || !c.is_alphanumeric()) && !word.is_empty() {
                self.words.push(std::mem::take(&mut word));
            }
            if c.is_alphanumeric() {
                word.extend(c.to_lowercase());
                joined.extend(c.to_lowercase());
            }
            before = c;
        }
        if !word.is_empty() {
            self.words.push(word);
        }
        if !joined.is_empty() {
            self.joined.push(joined);
        }
    }

    /// Adds the segments of a path, each for itself.
    pub fn add_path(&mut self, path: &str) {
        for segment in path.split(['/', ';']).filter(|s| !s.is_empty()).take(32) {
            self.add(segment.trim_end_matches(".php").trim_end_matches(".aspx").trim_end_matches(".jsp"));
        }
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// True if one of the words suggests this.
    pub fn say(&self, meaning: &Meaning) -> bool {
        self.words.iter().any(|w| {
            meaning.words.contains(&w.trim_end_matches(|c: char| c.is_ascii_digit()))
                || meaning.words.contains(&w.as_str())
        }) || self.joined.iter().any(|j| meaning.stems.iter().any(|s| j.contains(s)))
    }

    /// All of it as one text, to tell places apart.
    pub fn key(&self) -> String {
        self.joined.join(".")
    }

    /// True if one of these is the last segment or name, or the one before it.
    pub fn ends_with_one_of(&self, names: &[&str]) -> bool {
        self.joined.iter().rev().take(2).any(|j| names.contains(&j.as_str()))
    }

    /// True if there is only one.
    pub fn is_one(&self) -> bool {
        self.words.len() == 1
    }

    /// The last word.
    pub fn last(&self) -> Option<&str> {
        self.words.last().map(String::as_str)
    }
}

/// A meaning that words can have.
#[derive(Debug)]
pub struct Meaning {
    /// Whole words (digits at their end do not count).
    words: &'static [&'static str],
    /// Parts of a name, whatever stands around them.
    stems: &'static [&'static str],
}

impl Meaning {
    /// Its whole words.
    pub fn words(&self) -> &'static [&'static str] {
        self.words
    }

    /// Its stems.
    pub fn stems(&self) -> &'static [&'static str] {
        self.stems
    }
}

/// Every meaning.
pub fn all() -> impl Iterator<Item = &'static Meaning> {
    const ALL: &[&Meaning] = &[
        &PASSWORD,
        &ABOUT_PASSWORD,
        &OLD,
        &NEW,
        &AGAIN,
        &IDENTIFIER,
        &NAME,
        &EMAIL,
        &CODE,
        &SECOND_FACTOR,
        &LOGOUT,
        &LOGIN,
        &LOGIN_PLACE,
        &SIGN_UP,
        &MAKE,
        &RESET,
        &SEND,
        &CHANGE,
        &CHANGE_ONLY,
        &OFF,
        &AGAIN_IN_SESSION,
        &REVOKE,
        &REFRESH,
        &VERIFY,
        &CONFIRM,
        &WRONG,
        &NO,
        &MACHINERY,
        &DESTINATION,
        &ACTION,
        &KEYS,
        &ONE_KEY,
        &OTHER_KEYS,
        &CREDENTIAL,
        &OTHER_PASSWORDS,
        &KEY,
        &TOKEN,
    ];
    ALL.iter().copied()
}

const fn meaning(words: &'static [&'static str], stems: &'static [&'static str]) -> Meaning {
    Meaning { words, stems }
}

/// A password.
pub const PASSWORD: Meaning = meaning(
    &["pass", "pw", "psw", "pswd", "mdp", "clave", "pwd", "hasło", "haslo", "heslo", "parola", "sifre", "şifre"],
    &[
        "passw",
        "passwd",
        "pwd",
        "passphrase",
        "userpass",
        "txtpass",
        "kennwort",
        "passwort",
        "motdepasse",
        "contrase",
        "contrasenya",
        "senha",
        "wachtwoord",
        "lösenord",
        "losenord",
        "passord",
        "adgangskode",
        "salasana",
        "jelszo",
        "jelszó",
        "palavrapasse",
        "lozinka",
        "geslo",
        "slaptazod",
        "matkhau",
        "mậtkhẩu",
        "katasandi",
        "пароль",
        "парол",
        "密码",
        "密碼",
        "口令",
        "パスワード",
        "비밀번호",
        "암호",
        "סיסמ",
        "كلمةالمرور",
        "كلمهالمرور",
        "رمزعبور",
        "पासवर्ड",
        "κωδικός",
        "รหัสผ่าน",
    ],
);

/// A name that has a password's word in it and is none: a switch, a hint, a button.
pub const ABOUT_PASSWORD: Meaning = meaning(
    &[
        "usable",
        "strength",
        "hint",
        "reset",
        "forgot",
        "forgotten",
        "remember",
        "show",
        "generate",
        "weak",
        "expires",
        "expiry",
        "policy",
        "type",
        "mode",
        "enabled",
        "length",
        "url",
        "submit",
        "btn",
        "button",
        "send",
        "name",
        "id",
        "save",
        "set",
        "toggle",
        "checkbox",
        "score",
        "rules",
        "question",
    ],
    &["passwordless"],
);

/// The old one of two passwords.
pub const OLD: Meaning = meaning(
    &[
        "old",
        "current",
        "cur",
        "curr",
        "existing",
        "present",
        "previous",
        "prev",
        "orig",
        "original",
        "alt",
        "altes",
        "actuel",
        "ancien",
        "actual",
        "anterior",
        "antigua",
        "vecchia",
        "attuale",
        "atual",
        "antiga",
        "oud",
        "huidig",
        "huidige",
        "eski",
        "mevcut",
        "gammel",
        "gammelt",
        "nuvarande",
        "stare",
        "obecne",
        "opass",
        "verify",
    ],
    &[
        "oldp",
        "currentp",
        "existingp",
        "altespass",
        "aktuell",
        "bisherig",
        "ancien",
        "motdepasseactuel",
        "旧",
        "舊",
        "原密",
        "当前",
        "當前",
        "現在",
        "현재",
        "기존",
        "стар",
        "текущ",
    ],
);

/// The new one of two passwords.
pub const NEW: Meaning = meaning(
    &[
        "new", "neu", "neues", "nouveau", "nueva", "nuevo", "nuova", "nova", "novo", "nieuw", "nieuwe", "yeni", "ny",
        "nytt", "nowe", "npass", "ne",
    ],
    &["newp", "neuesp", "nouveau", "nueva", "nuova", "新", "새", "нов"],
);

/// The same password a second time.
pub const AGAIN: Meaning = meaning(
    &[
        "confirm",
        "confirmation",
        "confirmed",
        "repeat",
        "again",
        "verification",
        "retype",
        "retyped",
        "re",
        "check",
        "chk",
        "passchk",
        "cpassword",
        "repassword",
        "repass",
        "conf",
        "match",
        "repeated",
        "second",
        "bis",
        "ripeti",
        "repetir",
        "tekrar",
        "herhaal",
    ],
    &[
        "confirm",
        "retype",
        "repeat",
        "wiederhol",
        "bestät",
        "bestaet",
        "verifyp",
        "passwordagain",
        "passwordcheck",
        "passcheck",
        "确认",
        "確認",
        "重复",
        "再",
        "확인",
        "подтвер",
        "повтор",
    ],
);

/// Who somebody says to be.
pub const IDENTIFIER: Meaning = meaning(
    &[
        "user",
        "username",
        "userid",
        "uid",
        "uname",
        "usr",
        "login",
        "log",
        "email",
        "mail",
        "account",
        "acct",
        "identifier",
        "ident",
        "identity",
        "handle",
        "phone",
        "mobile",
        "telephone",
        "tel",
        "member",
        "nick",
        "nickname",
        "principal",
        "utente",
        "usuario",
        "usuário",
        "correo",
        "courriel",
        "identifiant",
        "kennung",
        "cpf",
        "customer",
        "employee",
        "staff",
        "student",
        "loginid",
        "emailaddress",
        "konto",
        "brugernavn",
        "logname",
    ],
    &[
        "username",
        "userlogin",
        "userid",
        "loginname",
        "loginid",
        "useremail",
        "emailaddr",
        "useroremail",
        "emailorlogin",
        "benutzer",
        "anmeldename",
        "nutzername",
        "mailadresse",
        "utilisateur",
        "identifiant",
        "usuario",
        "correo",
        "nomeutente",
        "gebruiker",
        "användar",
        "anvandar",
        "użytkownik",
        "uzytkownik",
        "kullanıcı",
        "kullanici",
        "eposta",
        "uživatel",
        "uzivatel",
        "felhasznál",
        "felhasznal",
        "käyttäj",
        "kayttaj",
        "пользовател",
        "логин",
        "почт",
        "用户",
        "用戶",
        "使用者",
        "账号",
        "帐号",
        "帳號",
        "账户",
        "邮箱",
        "郵箱",
        "邮件",
        "手机",
        "ユーザ",
        "メール",
        "아이디",
        "이메일",
        "사용자",
        "משתמש",
        "المستخدم",
    ],
);

/// The name that somebody signs in with, where an address stands beside it.
pub const NAME: Meaning = meaning(
    &[
        "user",
        "username",
        "uname",
        "login",
        "nick",
        "nickname",
        "handle",
        "usuario",
        "utente",
        "brugernavn",
        "identifiant",
    ],
    &["username", "loginname", "benutzername", "nutzername", "用户名", "ユーザ", "아이디"],
);

/// An address.
pub const EMAIL: Meaning = meaning(
    &["email", "mail", "emailaddress", "correo", "courriel", "eposta", "mailbox"],
    &["email", "mailaddr", "mailadresse", "почт", "邮箱", "郵箱", "メール", "이메일"],
);

/// A code that proves somebody for a moment.
pub const CODE: Meaning = meaning(
    &[
        "code",
        "otp",
        "totp",
        "mfa",
        "2fa",
        "tfa",
        "pin",
        "tan",
        "passcode",
        "token",
        "sms",
        "authcode",
        "verification",
        "challenge",
        "kod",
        "codigo",
        "código",
        "codice",
        "otc",
        "twofactor",
    ],
    &[
        "totp",
        "otpcode",
        "onetime",
        "authcode",
        "twofactor",
        "mfacode",
        "verificationcode",
        "einmal",
        "验证码",
        "驗證碼",
        "認証",
        "인증",
        "код",
    ],
);

/// A second factor.
pub const SECOND_FACTOR: Meaning = meaning(
    &["2fa", "mfa", "otp", "totp", "tfa", "hotp", "webauthn", "u2f", "2sv", "2step", "otc"],
    &[
        "twofactor",
        "twostep",
        "2factor",
        "2faauth",
        "multifactor",
        "secondfactor",
        "onetimepass",
        "onetimecode",
        "totp",
        "authenticatorcode",
        "backupcode",
        "recoverycode",
        "verificationcode",
        "otpcode",
        "otptoken",
        "zweifaktor",
        "mfaauth",
        "mfareq",
        "mfatoken",
    ],
);

/// The end of a session.
pub const LOGOUT: Meaning = meaning(
    &["esci", "sair", "salir"],
    &[
        "logout",
        "signout",
        "logoff",
        "signoff",
        "loggedout",
        "abmeld",
        "auslogg",
        "deconnexion",
        "déconnexion",
        "cerrarsesion",
        "cerrarsesión",
        "uitlog",
        "afmeld",
        "loggaut",
        "loggut",
        "loggud",
        "wylog",
        "выход",
        "выйти",
        "odhlas",
        "odhlás",
        "kijelentkez",
        "退出",
        "登出",
        "注销",
        "註銷",
        "ログアウト",
        "サインアウト",
        "로그아웃",
        "cikis",
        "çıkış",
        "endsession",
        "destroysession",
        "sessiondestroy",
        "closesession",
        "invalidatesession",
    ],
);

/// The beginning of a session.
pub const LOGIN: Meaning = meaning(
    &[
        "auth",
        "authenticate",
        "authentication",
        "session",
        "sessions",
        "entrar",
        "acceder",
        "accedi",
        "token",
        "sso",
        "accesso",
    ],
    &[
        "login",
        "signin",
        "logon",
        "signon",
        "anmeld",
        "einlogg",
        "connexion",
        "iniciarsesion",
        "iniciarsesión",
        "inlogg",
        "loggain",
        "logginn",
        "zalog",
        "вход",
        "войти",
        "авториз",
        "登录",
        "登錄",
        "登入",
        "ログイン",
        "サインイン",
        "로그인",
        "giris",
        "giriş",
        "prihlas",
        "přihlás",
        "securitycheck",
        "authenticat",
        "obtaintoken",
        "tokenauth",
    ],
);

/// Where one signs in, as an address says it: without words that stand in many other addresses.
pub const LOGIN_PLACE: Meaning = meaning(
    &["reauth"],
    &[
        "login",
        "signin",
        "logon",
        "signon",
        "anmeld",
        "einlogg",
        "connexion",
        "iniciarsesion",
        "inlogg",
        "loggain",
        "logginn",
        "zalog",
        "вход",
        "войти",
        "登录",
        "登錄",
        "登入",
        "ログイン",
        "로그인",
        "giris",
        "giriş",
        "prihlas",
        "přihlás",
    ],
);

/// A new account.
pub const SIGN_UP: Meaning = meaning(
    &["register", "join", "enroll", "enrol", "invite", "invitation", "activate", "activation"],
    &[
        "signup",
        "register",
        "registration",
        "registrier",
        "createaccount",
        "newaccount",
        "createuser",
        "newuser",
        "usernew",
        "adduser",
        "useradd",
        "usercreate",
        "inscription",
        "inscrire",
        "registro",
        "registrar",
        "cadastr",
        "iscri",
        "注册",
        "註冊",
        "登録",
        "회원가입",
        "регистрац",
        "kayit",
        "kayıt",
        "kontoerstell",
        "accountanleg",
    ],
);

/// Something is made.
pub const MAKE: Meaning = meaning(&["add", "new", "create", "make", "insert", "invite", "import", "generate"], &[]);

/// A forgotten password.
pub const RESET: Meaning = meaning(
    &["reset", "lost", "forgot", "forgotten", "restore", "rp"],
    &[
        "forgot",
        "forget",
        "lostpass",
        "lostpw",
        "lostpwd",
        "recover",
        "resetp",
        "passwordreset",
        "passreset",
        "pwreset",
        "resendp",
        "remindp",
        "passwordremind",
        "vergessen",
        "oubli",
        "olvid",
        "dimentic",
        "recuper",
        "esquec",
        "vergeten",
        "glomt",
        "glömt",
        "glemt",
        "zapomn",
        "zapomen",
        "unuttum",
        "忘",
        "找回",
        "重置",
        "재설정",
        "찾기",
        "забы",
        "восстанов",
        "сброс",
        "zurucksetz",
        "zuruecksetz",
        "zurücksetz",
        "reinitialis",
        "réinitialis",
        "restablec",
        "reimpost",
        "redefin",
    ],
);

/// Something is asked for or sent.
pub const SEND: Meaning =
    meaning(&["request", "send", "resend", "mail", "email", "link", "instructions", "token"], &[]);

/// An existing thing is changed.
pub const CHANGE: Meaning = meaning(
    &[
        "change",
        "edit",
        "update",
        "profile",
        "account",
        "settings",
        "preferences",
        "me",
        "self",
        "modify",
        "set",
        "security",
        "options",
        "prefs",
    ],
    &[
        "password",
        "passwd",
        "profile",
        "useredit",
        "edituser",
        "einstellung",
        "profil",
        "kennwort",
        "passwort",
        "contrase",
        "senha",
        "motdepasse",
    ],
);

/// Words of a change alone, without those of a password.
pub const CHANGE_ONLY: Meaning = meaning(&["change", "edit", "update", "profile"], &[]);

/// Something is taken away.
pub const OFF: Meaning =
    meaning(&["disable", "deactivate", "remove", "delete", "off", "revoke", "unset", "unregister"], &[]);

/// The password of the session is asked for once more.
pub const AGAIN_IN_SESSION: Meaning = meaning(
    &["reauth", "reauthenticate", "sudo", "confirm", "elevate", "unlock", "stepup"],
    &["reauth", "confirmpass", "passwordconfirm", "confirmaccess", "verifypass"],
);

/// A token is taken back (RFC 7009).
pub const REVOKE: Meaning = meaning(&["revoke", "revocation", "invalidate"], &[]);

/// A session or token is renewed.
pub const REFRESH: Meaning =
    meaning(&["refresh", "renew", "keepalive", "heartbeat"], &["refreshtoken", "tokenrefresh", "renewtoken"]);

/// An address or account that waits to be verified.
pub const VERIFY: Meaning = meaning(
    &["unverified", "unconfirmed", "inactive", "pending"],
    &[
        "confirmemail",
        "emailconfirm",
        "verifyemail",
        "emailverif",
        "verifyaccount",
        "accountverif",
        "confirmaccount",
        "activateaccount",
        "accountinactive",
        "verificationsent",
        "emailnotverified",
        "notverified",
        "notconfirmed",
    ],
);

/// An address is confirmed.
pub const CONFIRM: Meaning = meaning(
    &["confirm", "confirmation", "verify", "verification"],
    &["confirmemail", "verifyemail", "emailconfirm", "emailverif", "newemail"],
);

/// Something went wrong.
pub const WRONG: Meaning = meaning(
    &[
        "error",
        "errors",
        "err",
        "fail",
        "failed",
        "failure",
        "invalid",
        "denied",
        "incorrect",
        "bad",
        "wrong",
        "badcredentials",
        "locked",
        "lockout",
        "blocked",
        "suspended",
        "banned",
        "throttled",
        "errorcode",
        "unauthorized",
        "expired",
    ],
    &["loginerror", "loginfail", "error", "failed", "invalid", "badcred"],
);

/// A message that something was not done: words of refusal, and the plain negation.
pub const NO: Meaning = meaning(
    &[
        "not",
        "cannot",
        "incorrect",
        "invalid",
        "wrong",
        "failed",
        "failure",
        "error",
        "unable",
        "denied",
        "mismatch",
        "nicht",
        "falsch",
        "ungültig",
        "fehler",
        "pas",
        "incorrecte",
        "invalide",
        "échec",
        "erreur",
        "incorrecta",
        "inválida",
        "não",
        "incorreta",
        "errata",
        "niet",
        "onjuist",
        "inte",
        "felaktigt",
        "ikke",
        "feil",
        "forkert",
        "nie",
        "błąd",
        "nesprávné",
        "chyba",
        "не",
        "неверный",
        "ошибка",
        "değil",
        "yanlış",
        "hata",
        "לא",
        "خطأ",
    ],
    &["错误", "錯誤", "不", "失败", "失敗", "エラー", "ません", "違", "오류", "않", "잘못"],
);

/// Fields that the application's machinery adds to every form.
pub const MACHINERY: Meaning = meaning(
    &["csrf", "xsrf", "nonce", "utf8", "viewstate", "eventvalidation", "sectok", "honeypot", "captcha"],
    &[
        "csrf",
        "xsrf",
        "authenticitytoken",
        "requestverification",
        "viewstate",
        "eventtarget",
        "eventargument",
        "eventvalidation",
        "antiforgery",
        "formtoken",
        "logintoken",
        "wpnonce",
        "captcha",
        "formbuild",
        "executiontoken",
    ],
);

/// Where somebody goes afterwards: its value is an address of the application, no action.
pub const DESTINATION: Meaning = meaning(
    &[
        "next",
        "redirect",
        "return",
        "returnto",
        "back",
        "ref",
        "referer",
        "referrer",
        "continue",
        "dest",
        "destination",
        "goto",
        "target",
        "url",
        "uri",
        "service",
        "from",
        "origin",
    ],
    &["redirect", "returnurl", "backurl", "returnto", "referer", "gotourl", "successurl", "nexturl"],
);

/// Fields that say which of several things a form does.
pub const ACTION: Meaning = meaning(
    &[
        "action",
        "act",
        "do",
        "task",
        "op",
        "operation",
        "cmd",
        "command",
        "todo",
        "event",
        "func",
        "formid",
        "route",
        "route",
        "intent",
    ],
    &["formid", "formaction", "subaction", "restroute"],
);

/// A key that stands for an account beyond a session.
pub const KEY: Meaning = meaning(
    &["apikey", "apikeys", "apitoken", "apitokens", "tokens", "pat"],
    &["apikey", "apitoken", "accesstoken", "personaltoken", "applicationpassword", "apppassword", "accesskey"],
);

/// Keys, where the place may mean others: what the answer hands out decides.
pub const KEYS: Meaning = meaning(&["keys"], &[]);

/// One key or token, beside a word of making it.
pub const ONE_KEY: Meaning = meaning(&["key", "token"], &[]);

/// What is called a key or token and stands for no account: of machines, other programs, texts.
pub const OTHER_KEYS: Meaning = meaning(
    &[
        "ssh",
        "gpg",
        "pgp",
        "public",
        "pubkey",
        "deploy",
        "device",
        "devices",
        "push",
        "upload",
        "uploads",
        "csrf",
        "xsrf",
        "cache",
        "translation",
        "translations",
        "i18n",
        "license",
        "licenses",
        "licence",
        "licences",
        "encryption",
        "idempotency",
        "webauthn",
        "captcha",
        "invite",
        "invitation",
        "search",
        "query",
        "object",
        "objects",
        "refresh",
        "sort",
        "primary",
        "foreign",
    ],
    &["sshkey", "publickey"],
);

/// What proves somebody, without the word of a password.
pub const CREDENTIAL: Meaning = meaning(&["credential", "credentials", "passcode"], &["credential"]);

/// Places that have a password's word and are about something else than whose session it is.
pub const OTHER_PASSWORDS: Meaning = meaning(
    &[
        "policy",
        "policies",
        "hint",
        "rules",
        "strength",
        "question",
        "history",
        "manager",
        "vault",
        "vaults",
        "entries",
        "items",
        "generator",
        "template",
        "templates",
    ],
    &[],
);

/// A secret that a mailed link carries.
pub const TOKEN: Meaning = meaning(
    &["token", "key", "hash", "code", "secret", "ticket", "signature", "confirmation", "rp", "sig"],
    &["token", "resetkey", "resetcode", "verificationkey", "rpkey", "confirmationcode"],
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_passwords_are_known_in_many_spellings_and_languages() {
        for name in [
            "password",
            "pwd",
            "user[password]",
            "userPassword",
            "j_password",
            "_pass",
            "pass1",
            "os_password",
            "passwd",
            "mot_de_passe",
            "Passwort",
            "contraseña",
            "пароль",
            "密码",
            "ctl00$Main$txtPassword",
            "new_password2",
            "kennwort",
        ] {
            assert!(Words::of(name).say(&PASSWORD), "{name}");
        }
        for name in ["username", "compass_heading", "passenger", "bypass", "email", "p"] {
            assert!(!Words::of(name).say(&PASSWORD), "{name}");
        }
    }

    #[test]
    fn words_are_cut_by_separators_and_case() {
        let words = Words::of("user[newPassword]_2");
        assert_eq!(words.words, ["user", "new", "password", "2"]);
        assert!(words.say(&NEW) && words.say(&PASSWORD) && !words.say(&OLD));
    }

    #[test]
    fn ways_out_are_known_in_paths_and_blogs_are_not_taken_for_one() {
        for path in ["/logout", "/users/sign_out", "/auth/logOut", "/abmelden", "/account/log-off", "/退出"] {
            let mut words = Words::default();
            words.add_path(path);
            assert!(words.say(&LOGOUT), "{path}");
        }
        let mut words = Words::default();
        words.add_path("/blog/output");
        assert!(!words.say(&LOGOUT));
    }
}
