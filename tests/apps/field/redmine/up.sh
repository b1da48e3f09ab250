#!/usr/bin/env bash
# Redmine of Debian (Rails) on sqlite of this run's own, mail into files.
. "$APPS_LIB/app.sh"
fresh
need_apt redmine redmine-sqlite
site="$DATA/site"
cp -rL /usr/share/redmine "$site" 2>/dev/null || true
rm -rf "$site/tmp" "$site/log" "$site/instances"; mkdir -p "$site/tmp" "$site/log" "$DATA/files" "$site/instances/default/config" "$site/instances/default/tmp"
cat >"$site/instances/default/config/database.yml" <<YML
production: { adapter: sqlite3, database: $DATA/redmine.db, encoding: utf8 }
YML
cat >"$site/instances/default/config/configuration.yml" <<YML
default:
  attachments_storage_path: $DATA/files
  email_delivery:
    delivery_method: :file
    file_settings: { location: $MAIL }
YML
cat >"$DATA/seed.rb" <<RB
Setting.default_language = 'en'; Setting.self_registration = '3'; Setting.lost_password = '1'; Setting.host_name = '127.0.0.1'; Setting.login_required = '0'
Setting.mail_from = 'redmine@example.test'; Setting.rest_api_enabled = '1'
a = User.find_by_login('admin'); a.password = '$ADMIN_PASSWORD'; a.must_change_passwd = false; a.save!
%w[alice bob].each { |n| u = User.new(firstname: n, lastname: 'X', mail: "#{n}@example.test", language: 'en'); u.login = n; u.password = "First-Pass-77-#{n}"; u.save! }
Project.create!(name: 'Notes', identifier: 'notes', is_public: true)
RB
echo 'gem "webrick"' >>"$site/Gemfile"
cd "$site"
export RAILS_ENV=production SECRET_KEY_BASE=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef X_DEBIAN_SITEID=default REDMINE_LANG=en RAILS_LOG_TO_STDOUT=1
cp -f "$CACHE/redmine.db" "$DATA/redmine.db" 2>/dev/null || {
  bundle exec rake db:migrate >"$LOG/migrate.log" 2>&1
  bundle exec rake redmine:load_default_data >>"$LOG/migrate.log" 2>&1
  bundle exec rails runner "$DATA/seed.rb" >>"$LOG/migrate.log" 2>&1
  cp "$DATA/redmine.db" "$CACHE/redmine.db"
}
start rails bundle exec rails server -u webrick -b 127.0.0.1 -p "$PORT" -e production
ready /login 120
