"""What leaves a site, as bytes: Adapter and SiteUpdate. numpy only."""
