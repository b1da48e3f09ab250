#!/usr/bin/env bash
# Request Tracker of Debian (Perl, Mason) on sqlite of this run's own, its standalone server.
. "$APPS_LIB/app.sh"
fresh
need_apt request-tracker5 rt5-db-sqlite rt5-standalone
mkdir -p "$DATA/conf.d" "$DATA/sessions" "$DATA/mason"
cat >"$DATA/RT_SiteConfig.pm" <<PM
Set(\$rtname, 'range'); Set(\$Organization, 'example.test'); Set(\$WebDomain, '127.0.0.1'); Set(\$WebPort, ${PUBLIC_URL##*:}); Set(\$WebPath, '');
Set(\$DatabaseType, 'SQLite'); Set(\$DatabaseName, '$DATA/rt.sqlite'); Set(\$WebSessionClass, 'Apache::Session::File');
Set(\$MailCommand, 'testfile'); Set(\$LogToSyslog, undef); Set(\$LogToSTDERR, 'warning'); Set(\$RestrictReferrer, 0);
Set(\$CanonicalizeRedirectURLs, 0); Set(\$BcryptCost, 10); Set(\$LogDir, '$LOG');
1;
PM
cat >"$DATA/users.pl" <<PL
use lib '/usr/share/request-tracker5/lib'; use RT; RT->LoadConfig; RT->Init;
for my \$n (qw(alice bob)) {
  my \$u = RT::User->new(RT->SystemUser);
  my (\$id, \$msg) = \$u->Create(Name => \$n, EmailAddress => "\$n\@example.test", Password => "First-Pass-77-\$n", Privileged => 1);
  print "\$n \$msg\n";
  RT->System; my \$g = \$u->PrincipalObj; \$g->GrantRight(Right => 'ModifySelf', Object => \$RT::System);
  \$g->GrantRight(Right => 'ShowTicket', Object => \$RT::System);
}
PL
export RT_SITE_CONFIG="$DATA/RT_SiteConfig.pm" RT_SITE_CONFIG_DIR="$DATA/conf.d"
cd "$DATA"
printf '%s' "$ADMIN_PASSWORD" >"$DATA/root-password"
rt-setup-database-5 --action init --dba root --skip-create --root-password-file "$DATA/root-password" >"$LOG/setup.log" 2>&1 ||
  rt-setup-database-5 --action init --root-password-file "$DATA/root-password" >>"$LOG/setup.log" 2>&1 || true
perl "$DATA/users.pl" >>"$LOG/setup.log" 2>&1
start rt /usr/share/request-tracker5/libexec/standalone_httpd --port "$PORT" --host 127.0.0.1
ready / 120
